"""The pose or the motion as BVH: what animation programs retarget.

Offsets are those of the T-pose, so that angles of zero are it, as retargeting expects. Metres, degrees.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from lvdreg.export.figure import Figure

ORDER = "ZXY"
"""Of the angles: R = Rz Rx Ry."""
FPS = 30.0


def write_bvh(path: Path, figures: Sequence[Figure], rest: Figure, fps: float = FPS) -> None:
    """Write the poses of one person, a frame each, relative to that of ``rest``, the same person in a T-pose."""
    at_zero, order = rest.bone_transforms(), _in_file_order(rest, 0)
    lines = ["HIERARCHY", *_joint_lines(rest, at_zero[:, :3, 3], 0, 0)]
    lines += ["MOTION", f"Frames: {len(figures)}", f"Frame Time: {1 / fps:.6f}"]
    for figure in figures:
        posed = figure.bone_transforms()
        # World rotations from the T-pose to the pose, then relative to the parent.
        turned = posed[:, :3, :3] @ at_zero[:, :3, :3].transpose(0, 2, 1)
        above = np.where(figure.parents[:, None, None] >= 0, turned[figure.parents], np.eye(3))
        angles = Rotation.from_matrix(above.transpose(0, 2, 1) @ turned).as_euler(ORDER, degrees=True)
        lines.append(" ".join(f"{x:.6f}" for x in [*posed[0, :3, 3], *angles[order].ravel()]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _children(figure: Figure, joint: int) -> list[int]:
    return [int(k) for k in np.flatnonzero(figure.parents == joint)]


def _in_file_order(figure: Figure, joint: int) -> list[int]:
    """Return a joint and all below it as the file has them: depth first."""
    return [joint, *(k for child in _children(figure, joint) for k in _in_file_order(figure, child))]


def _joint_lines(figure: Figure, joints: Float64[np.ndarray, "J 3"], joint: int, depth: int) -> list[str]:
    tab, is_root, parent = "\t" * depth, depth == 0, int(figure.parents[joint])
    # The root's place is in its channels.
    offset = np.zeros(3) if is_root else joints[joint] - joints[parent]
    places = "Xposition Yposition Zposition " if is_root else ""
    turns = " ".join(f"{axis}rotation" for axis in ORDER)
    inner = [f"OFFSET {_words(offset)}", f"CHANNELS {6 if is_root else 3} {places}{turns}"]
    children = _children(figure, joint)
    below = [line for child in children for line in _joint_lines(figure, joints, child, depth + 1)]
    if not children:
        # As long as half the bone before: BVH asks for an end.
        end = 0.5 * (joints[joint] - joints[max(parent, 0)])
        below = [f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {_words(end)}", f"{tab}\t}}"]
    head = f"{tab}{'ROOT' if is_root else 'JOINT'} {figure.bones[joint]}"
    return [head, f"{tab}{{", *(f"{tab}\t{line}" for line in inner), *below, f"{tab}}}"]


def _words(offset: Float64[np.ndarray, " 3"]) -> str:
    return " ".join(f"{x:.6f}" for x in offset)
