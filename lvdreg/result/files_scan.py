"""What is in the result folder of a scan: meshes, parameters, report and preview."""

from pathlib import Path
from typing import Any

from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.draw_scan import preview
from lvdreg.result.files import Format, write_params
from lvdreg.result.ply import write_ply
from lvdreg.result.sheet import sigma_colours, sigma_top_mm

# By the side of a hand; None: a body.
MODEL_FRAMES = {
    None: "the posed body in metres, Y up",
    "right": "the posed right hand in metres, fingers about along Y, palm about towards Z",
    "left": "the posed left hand in metres, fingers about along Y, palm about towards Z; a mirrored right one",
}
FILES = {
    "body.ply": "the fitted parametric model itself, under clothes, without displacements; sigma as a vertex property",
    "registered.ply": "the final surface; sigma, sigma_across and sigma_along at each vertex, in the unit of the scan",
    "uncertainty.ply": "the same surface coloured by sigma; the scale is in uncertainty_colours",
    "params.npz": "pose and shape under smplx's argument names, (1, K) each (of a hand: MANO's), model, T_scan_model",
    "report.json": "this file",
    "preview.png": "scan, result and uncertainty from four sides",
}


def write_scan_files(registration: RegistrationData, folder: Path) -> None:
    """Write all files but the report."""
    write_meshes(registration, folder)
    about: dict[str, Any] = {"unit": registration.unit, "T_scan_model": registration.T_scan_model}
    if registration.side is None:
        about |= {"up": registration.up}
    else:
        about |= {"side": registration.side, "side_confidence": registration.side_confidence}
    write_params(registration, folder / "params.npz", about)
    preview(registration).save(folder / "preview.png")


def write_meshes(registration: RegistrationData, folder: Path) -> None:
    """Write the three meshes, scan frame and unit."""
    top_mm = sigma_top_mm(registration.sigma_mm)
    about = [f"lvdreg, model {registration.model}, scan frame, unit {registration.unit}"]
    meaning = "sigma: one standard deviation, in the unit of the coordinates"
    parts = f"{meaning}; sigma_across and sigma_along: its parts; sigma_descent: of the network's vertices"
    colours, colour_note = (
        sigma_colours(registration.sigma_mm, top_mm), f"colours: sigma from 0 (pale) to {top_mm:g} mm and more (dark)"
    )  # fmt: skip
    body, surface, faces = registration.body_vertices, registration.vertices, registration.faces
    of_body = {"sigma": registration.units_per_mm * registration.body_sigma_mm}
    of_surface = {
        name.removesuffix("_mm"): registration.units_per_mm * getattr(registration, name)
        for name in ("sigma_mm", "sigma_across_mm", "sigma_along_mm")
    }
    of_surface["sigma_descent"] = registration.units_per_mm * registration.descent_sigma_mm
    write_ply(folder / "body.ply", body, faces, properties=of_body, comments=[*about, meaning])
    write_ply(folder / "registered.ply", surface, faces, properties=of_surface, comments=[*about, parts])
    write_ply(folder / "uncertainty.ply", surface, faces, colours=colours, comments=[*about, colour_note])


def report_of_scan(registration: RegistrationData) -> dict[str, Any]:
    """Return what only the report of a scan says."""
    scan, is_body = registration.scan, registration.side is None
    return {
        "scan": {
            "points": len(scan.points),
            "faces": 0 if scan.faces is None else len(scan.faces),
            "unit": registration.unit,
            "unit_is_guess": registration.unit_is_guess,
            "up": registration.up if is_body else None,
            "notes": scan.notes,
        },
        "part_sigma_mm": registration.part_sigma_mm,
        "side": registration.side,
        "side_confidence": registration.side_confidence,
        "shared": {"shape_with": registration.shape_with},
        "transforms": {
            "T_scan_model": registration.T_scan_model,
            "meaning": f"4x4, p_scan = T_scan_model @ [p_model, 1]; model: {MODEL_FRAMES[registration.side]}",
        },
    }


SCAN_FORMAT = Format(FILES, write_scan_files, report_of_scan)
