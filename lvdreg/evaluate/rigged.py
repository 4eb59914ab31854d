"""Hands that others modelled, with a skeleton of WebXR's 25 joints: the joints that they share with the hand model.

A modeller's joints are where the modeller put them, not where anatomy has them: the error has a part that no
registration can remove. The error after the best rigid alignment is given beside it, as a diagnosis.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lvdreg.base.errors import ScanError
from lvdreg.base.files import read_bytes
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.evaluate.cache import Arrays, CachedResult, run_key
from lvdreg.evaluate.methods import OURS, Progress, arrays_of, run_files, verdict_note, words_of
from lvdreg.evaluate.population import HAND_LENGTH
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.frames import nearest_rotation
from lvdreg.geometry.metrics import MM, summarise
from lvdreg.pipeline.scan import register_hand
from lvdreg.scan.read import MAX_BYTES
from lvdreg.scan.readers.gltf import node_positions

JOINT_FAILURE_MM = 20.0
_FINGERS = ("index", "middle", "pinky", "ring")
_BONES = ("phalanx-proximal", "phalanx-intermediate", "phalanx-distal")
SHARED_JOINTS = {
    "wrist": "wrist",
    **{f"{name}-finger-{bone}": f"{name}{i}" for name in _FINGERS for i, bone in enumerate(_BONES, 1)},
    "thumb-metacarpal": "thumb1",
    "thumb-phalanx-proximal": "thumb2",
    "thumb-phalanx-distal": "thumb3",
}
"""The hand model's name of each joint by its name in WebXR."""
_LENGTH = ("wrist", *(f"middle-finger-{bone}" for bone in ("metacarpal", *_BONES)), "middle-finger-tip")


def evaluate_rigged(
    paths: Sequence[str | Path],
    model: str = "anny-hand",
    out: str | Path = "out/rigged",
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Register rigged hands and compare joints in the same frame, nothing aligned, scaled to a hand 190 mm long.

    Args:
        paths: glTF files in metres whose joints have WebXR's names.
        model: ``anny-hand`` or ``anny-hand+d``.
        out: Where results are kept; run again to go on.
        progress: Called after each file.
        settings: Passed to ``register_hand`` for every file alike.

    Raises:
        ScanError: a file cannot be read, or lacks joints.
    """
    files = [Path(path) for path in paths]
    truths = [read_truth(path) for path in files]

    def ours(path: Path) -> Arrays:
        return arrays_of(register_hand(path, model=model, **settings))

    cached_results = run_files(files, Path(out) / OURS, run_key(model, settings), ours, OURS, progress)
    names = load_body(model.removesuffix("+d")).joint_names
    rows: list[Row] = []
    notes: list[str] = []
    details: dict[str, Any] = {"files": [str(path) for path in files], **words_of(cached_results)}
    for path, truth, cached in zip(files, truths, cached_results, strict=True):
        plain, aligned = joint_errors(cached, truth, names)
        for what, errors in (("joint", plain), ("joint, rigidly aligned", aligned)):
            rows.append(Row(OURS, f"{path.stem}: {what}", summarise(list(errors.values()), JOINT_FAILURE_MM)))
        notes.append(f"{path.stem}: {_words(truth, cached, plain)}")
        details[path.stem] = {"joint_mm": plain, "aligned_joint_mm": aligned, "side": truth.side}
    notes += [
        f"{OURS}: {verdict_note(cached_results)}",
        "one line for the 16 joints of a file, as if its hand were 190 mm long",
    ]
    return Table(f"Rigged hands, {len(files)}, {model}", tuple(rows), tuple(notes), details)


@dataclass(frozen=True)
class Truth:
    """What a rigged file says.

    Attributes:
        joints: Position (3,) of each shared joint by the hand model's name, metres.
        length: From the wrist along the middle finger's bones to its tip, metres.
        side: As the names in the file or its own name have it; None where they do not say.
    """

    joints: dict[str, FloatArray]
    length: float
    side: str | None


def read_truth(path: Path) -> Truth:
    """Read the joints of a rigged hand.

    Raises:
        ScanError: the file cannot be read, or lacks joints.
    """
    try:
        positions = node_positions(read_bytes(path, MAX_BYTES))
    except OSError as error:
        reason = error.strerror or error
        raise ScanError(f"expected a readable glTF file, got {path} ({reason}); check its name") from None
    lacking = [name for name in (*SHARED_JOINTS, *_LENGTH) if name not in positions]
    if lacking:
        raise ScanError(f"expected joints named as in WebXR in {path}, found no {lacking[0]}; name a rigged hand")
    chain = np.stack([positions[name] for name in _LENGTH])
    length = float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())
    return Truth(
        {ours: positions[name] for name, ours in SHARED_JOINTS.items()}, length, side_of([*positions, path.stem])
    )


def side_of(names: Sequence[str]) -> str | None:
    """Return the side that the first telling name tells: l_hand, handRight, rigged_left."""
    for name in names:
        for side in ("left", "right"):
            if re.search(rf"(^|[^a-zA-Z]){side[0]}([_.-]|$)|{side}", name, re.IGNORECASE):
                return side
    return None


def joint_errors(cached: CachedResult, truth: Truth, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the error of each shared joint, mm of a hand 190 mm long: as it is, and after the best rigid alignment.

    Args:
        cached: A kept registration.
        truth: What the file says.
        names: The hand model's joints, in order.
    """
    if "joints" not in cached.arrays:
        return ({name: math.nan for name in truth.joints},) * 2
    true = np.stack(list(truth.joints.values()))
    found = np.stack([cached.arrays["joints"][names.index(name)] for name in truth.joints])
    centred, goal = found - found.mean(0), true - true.mean(0)
    turn = nearest_rotation(goal.T @ centred)
    offsets = {"plain": found - true, "aligned": centred @ turn.T - goal}
    mm = {k: MM * HAND_LENGTH / truth.length * np.linalg.norm(v, axis=1) for k, v in offsets.items()}
    plain, aligned = (dict(zip(truth.joints, mm[kind].tolist(), strict=True)) for kind in ("plain", "aligned"))
    return plain, aligned


def _words(truth: Truth, cached: CachedResult, errors: dict[str, float]) -> str:
    if "joints" not in cached.arrays:
        return f"not registered: {cached.reason}"
    side = str(cached.arrays["side"])
    judged = "unknown" if truth.side is None else "right" if side == truth.side else f"WRONG, it is a {truth.side} hand"
    worst = max(errors, key=lambda name: errors[name])
    return (
        f"{side} hand ({judged}), unit {cached.arrays['unit']}; joints {np.mean(list(errors.values())):.1f} mm on "
        f"average, worst {worst} {errors[worst]:.1f} mm; {cached.verdict}: {cached.reason}"
    )
