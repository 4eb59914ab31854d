"""A motion as files: arrays, an animated model, an animation alone, a film strip, and a report of all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from lvdreg.base.arrays import write_npz
from lvdreg.base.disk import replacing_folder
from lvdreg.base.timing import Clock
from lvdreg.base.version import __version__
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.export.bones import Bones, bone_names
from lvdreg.export.bvh import write_bvh
from lvdreg.export.figure import Figure, named_pose, rigged
from lvdreg.export.rigged import write_rigged_glb
from lvdreg.geometry.mesh import mesh_normals
from lvdreg.result.draw_scan import Camera, Frame, Shape, pictures
from lvdreg.result.files import REPORT, RESULT, with_total, write_json
from lvdreg.result.motion import Motion
from lvdreg.result.sheet import BACKGROUND, BODY_COLOUR, CAPTION, FAINT, Window, font

FILES = {
    "film.png": "some frames from the side and the front, from left to right: look at it first",
    "motion.glb": "the rigged model, animated",
    "motion.bvh": "the animation alone, relative to a T-pose",
    "motion.npz": "poses, shape, places and velocities of joints, sigma, of each frame",
    REPORT: "this file",
}
MOST_SHOWN = 12
SHOWN_HEIGHT = 300
SIDES = (Camera("side", 0, np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])), Camera("front", 0, np.eye(3)))


def write_motion(motion: Motion, folder: str | Path, bones: Bones = "smpl") -> list[Path]:
    """Write everything a sequence leaves behind into a folder: all of it, or nothing.

    Raises:
        OutputError: a link or a file is in the folder's place, or a file of others bears the name of one of ours.
        OSError: the folder cannot be written.
    """
    folder, clock = Path(folder), Clock(seconds=dict(motion.timings))
    body = load_body(motion.model)
    figures = figures_of(motion, body, bones)
    with replacing_folder(folder, RESULT) as part:
        with clock.stage("write"):
            write_rigged_glb(part / "motion.glb", figures[0], f"lvdreg {__version__}", figures, motion.fps)
            betas = torch.from_numpy(motion.betas).float()
            at_zero = BodyParams(betas, named_pose(body.data, "t"), torch.zeros(3))
            rest = rigged(body, at_zero, motion.body_scale, motion.name, figures[0].bones)
            write_bvh(part / "motion.bvh", figures, rest, motion.fps)
            film_strip(motion, figures).save(part / "film.png")
            write_npz(part / "motion.npz", arrays_of(motion, body))
        write_json(part / REPORT, report_of(motion, clock.seconds))
    return [folder / name for name in FILES]


def figures_of(motion: Motion, body: BodyModel, bones: Bones = "smpl") -> list[Figure]:
    """Return the rigged person in each frame; all of them are moved alike, the first to its place."""
    names = bone_names(body.data.joint_names, bones, None)
    betas = torch.from_numpy(motion.betas).float()

    def params(i: int) -> BodyParams:
        return BodyParams(betas, *(torch.from_numpy(x[i]).float() for x in (motion.pose, motion.transl)))

    first = rigged(body, params(0), motion.body_scale, motion.name, names)
    turns = Rotation.from_rotvec(motion.pose.reshape(-1, 3)).as_matrix().reshape(*motion.pose.shape, 3)
    moved = first.transl + motion.body_scale * (motion.transl - motion.transl[0])
    # Pose blend shapes are those of the first frame: formats of animation know none that go with a pose.
    return [replace(first, rotations=turn, transl=place) for turn, place in zip(turns, moved, strict=True)]


def arrays_of(motion: Motion, body: BodyModel) -> dict[str, object]:
    """Return what ``motion.npz`` holds."""
    names = ("pose", "transl", "betas", "joints", "velocities", "sigma_mm", "residual_mm", "T_scan_model")
    arrays: dict[str, object] = {name: np.asarray(getattr(motion, name)) for name in names}
    return arrays | {
        "fps": np.array(motion.fps),
        "scale": np.array(motion.body_scale),
        "model": motion.model,
        "joint_names": np.array(body.joint_names),
        "frames": np.array(motion.frames),
        "how": np.array(motion.how),
    }


def report_of(motion: Motion, timings: dict[str, float]) -> dict[str, object]:
    """Return the report of a sequence."""
    counts = {how: motion.how.count(how) for how in dict.fromkeys(motion.how)}
    return {
        "lvdreg": __version__,
        "name": motion.name,
        "model": motion.model,
        "fps": motion.fps,
        "frames": [
            {"name": name, "how": how, "residual_mm": residual, "sigma_mm": sigma}
            for name, how, residual, sigma in zip(
                motion.frames, motion.how, motion.residual_mm.tolist(), motion.sigma_mm.tolist(), strict=True
            )
        ],
        "how": counts,
        "unit": motion.unit,
        "T_scan_model": motion.T_scan_model,
        "settings": motion.settings,
        "assets": motion.assets,
        "timings_s": with_total(timings),
        "files": FILES,
    }


def film_strip(motion: Motion, figures: list[Figure]) -> Image.Image:
    """Draw some frames beside each other: the side in the upper row, the front in the lower."""
    chosen = np.unique(np.linspace(0, len(figures) - 1, MOST_SHOWN).round().astype(int)).tolist()
    posed = [figures[i].posed() for i in chosen]
    middles = [np.array([x.mean(0)[0], (x[:, 1].min() + x[:, 1].max()) / 2, x.mean(0)[2]]) for x in posed]
    reach = np.max([np.abs(x - middle).max(0) for x, middle in zip(posed, middles, strict=True)], axis=0)
    window = Window.around(2 * np.array([max(reach[0], reach[2]), reach[1]]), 0.2, height=SHOWN_HEIGHT)
    sheet = Image.new("RGB", (window.width * len(chosen), len(SIDES) * window.height + CAPTION), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, (i, vertices, middle) in enumerate(zip(chosen, posed, middles, strict=True)):
        shape = Shape(vertices, figures[0].faces, mesh_normals(vertices, figures[0].faces), np.zeros_like(vertices))
        for row, camera in enumerate(SIDES):
            frame = Frame((camera.rotation[:2] @ middle)[None], window)
            picture = pictures(shape, [np.broadcast_to(BODY_COLOUR, vertices.shape)], camera, frame)[0]
            sheet.paste(picture, (column * window.width, row * window.height))
        label = f"{i + 1}: {i / motion.fps:.2f} s" + (", filled" if motion.how[i] == "filled" else "")
        at = (column * window.width + window.width // 2, len(SIDES) * window.height + 4)
        draw.text(at, label, FAINT, font(12), anchor="ma")
    return sheet
