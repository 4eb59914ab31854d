"""The posed surface as Wavefront OBJ, with UV layout and texture."""

from pathlib import Path

import numpy as np
from PIL import Image

from lvdreg.base.text import one_line
from lvdreg.export.figure import Figure


def write_obj(path: Path, figure: Figure, about: str) -> list[Path]:
    """Write the figure in its pose; with a layout its texture coordinates, with a picture material and picture beside.

    Vertices keep the order of the model. Without a picture, colours follow the coordinates, as most programs read them.

    Returns:
        The files written.
    """
    paint, files = figure.paint, [path]
    has_image = paint is not None and paint.image is not None
    vertices = figure.posed()
    table = vertices if paint is None or has_image else np.hstack([vertices, paint.colours / 255.0])
    lines = [f"# {about}: metres, Y up", f"o {one_line(figure.name)}"]
    if has_image:
        lines.append(f"mtllib {path.with_suffix('.mtl').name}")
    lines += ["v " + " ".join(f"{x:.6f}" for x in row) for row in table.tolist()]
    if figure.layout is not None:
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in figure.layout.uv.tolist()]
    if has_image:
        lines.append("usemtl body")
    corners = (figure.faces + 1).astype(str)
    if figure.layout is not None:
        corners = np.char.add(np.char.add(corners, "/"), (figure.layout.corners + 1).astype(str))
    lines += ["f " + " ".join(row) for row in corners.tolist()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if paint is not None and paint.image is not None:
        picture, material = path.with_suffix(".png"), path.with_suffix(".mtl")
        Image.fromarray(paint.image).save(picture)
        text = f"# {about}\nnewmtl body\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\n"
        material.write_text(text, encoding="utf-8")
        files += [material, picture]
    return files
