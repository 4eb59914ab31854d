"""Where on a body each vertex lies, as a tailor would say it; from joint names, skinning weights and the rest shape.

Coordinates along a limb count joints: 0 at the hip or shoulder, 1 at the knee or elbow, 2 at the ankle or wrist.
Heights on the torso are 0 at the hips and 1 at the base of the neck. The coordinate `lower` runs down through both:
minus the height on the torso, the leg's coordinate on the legs. All is per vertex, so it holds in every pose and shape.
"""

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lvdreg.body.model import BodyData, BodyModel
from lvdreg.geometry.mesh import mesh_normals, vertex_areas

_SIDES = ("left", "right")
_LEG = ("hip", "knee", "ankle")
_ARM = ("shoulder", "elbow", "wrist")
_ABOVE = {"hip": "pelvis", "knee": "hip", "ankle": "knee", "shoulder": "collar", "elbow": "shoulder", "wrist": "elbow"}
_GROWN_LEG = 0.80  # hip to knee to ankle of a grown person, metres
_NUM_WAVES = 160
_WAVELENGTHS = (0.05, 0.45)  # metres
_LEVEL_START, LEVEL_STEP, _NUM_LEVELS, _LEVEL_POINTS = -0.9, 0.08, 37, 56
LAST_LEVEL = _LEVEL_START + LEVEL_STEP * (_NUM_LEVELS - 1)
"""Coordinate `lower` at which cross-sections end: just above the ankles."""


@dataclass(frozen=True)
class Levels:
    """Cross-sections of torso and legs, from the waist down.

    Attributes:
        points: what each level encloses, relative to its centre, along `side` and `front` (B, L, M, 2).
        centre, side, front: frame of each level, world (B, L, 3).
    """

    points: Float[Tensor, "B L M 2"]
    centre: Float[Tensor, "B L 3"]
    side: Float[Tensor, "B L 3"]
    front: Float[Tensor, "B L 3"]

    def support(self, angle: Float[Tensor, " A"]) -> Float[Tensor, "B L A"]:
        """Return how far each level reaches in each direction, smoothed outwards over neighbours."""
        directions = torch.stack([angle.cos(), angle.sin()])
        reach = (self.points @ directions).amax(2)
        around = (reach.roll(1, 2) + 2 * reach + reach.roll(-1, 2)) / 4
        padded = torch.cat([around[:, :1], around, around[:, -1:]], 1)
        return torch.maximum(reach, (padded[:, :-2] + 2 * around + padded[:, 2:]) / 4)


def hull_radius(support: Float[Tensor, "*B A"], angle: Float[Tensor, " A"]) -> Float[Tensor, "*B A"]:
    """Return the radius of a convex shape in each direction, from its support function in evenly spaced directions."""
    cosine = (angle[:, None] - angle).cos()
    stretch = torch.where(cosine > 0.1, 1 / cosine.clamp(min=0.1), torch.inf)
    return (support[..., None, :].clamp(min=1e-4) * stretch).amin(-1)


class Regions(torch.nn.Module):
    """Per-vertex part weights, coordinates and smoothing of one body; buffers only."""

    is_arm: Tensor
    is_leg: Tensor
    is_torso: Tensor
    is_head: Tensor
    arm: Tensor
    leg: Tensor
    height: Tensor
    lower: Tensor
    front: Tensor
    belly: Tensor
    back_panel: Tensor
    toe: Tensor
    heel: Tensor
    sole: Tensor
    foot_normal: Tensor
    foot_side: Tensor
    hairline: Tensor
    head_direction: Tensor
    neck_gap: Tensor
    neck_back: Tensor
    axis: Tensor
    other_axis: Tensor
    centres: Tensor
    log_frequency: Tensor
    waves: Tensor
    level_index: Tensor
    torso_index: Tensor
    lower_body: Tensor
    torso_mix: Tensor
    average: Tensor

    band_top = (-0.42, -0.12)

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        data = body.data
        template = data.v_template.astype(np.float64)
        areas, normals = vertex_areas(template, data.faces), mesh_normals(template, data.faces)
        arrays: dict[str, NDArray[Any]] = _parts(data) | _feet(data, areas, normals) | _head(data)
        arrays |= _axes(data, areas) | _waves(data.v_template) | _torso(data, normals, arrays)
        arrays["lower"] = (1 - arrays["is_leg"]) * -arrays["height"] + arrays["is_leg"] * arrays["leg"]
        arrays["level_index"] = _level_index(arrays)
        arrays["torso_index"] = np.flatnonzero(arrays["is_torso"] > 0.02)
        arrays["lower_body"] = np.flatnonzero((arrays["is_arm"] < 0.3) & (arrays["is_head"] < 0.3))
        arrays["torso_mix"] = _level_hats(arrays["lower"][arrays["torso_index"]])
        for name, array in arrays.items():
            dtype = torch.int64 if array.dtype.kind == "i" else torch.float32
            self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(array), dtype=dtype), persistent=False)
        self.register_buffer("average", _averaging(data.faces, len(data.v_template)), persistent=False)

    def smooth(self, values: Float[Tensor, "B V C"], times: int) -> Float[Tensor, "B V C"]:
        """Average each vertex with its neighbours, several times."""
        batch, _, channels = values.shape
        flat = values.transpose(0, 1).reshape(values.shape[1], -1)
        for _ in range(times):
            flat = self.average @ flat
        return flat.view(-1, batch, channels).transpose(0, 1)

    def size(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B 1"]:
        """Return the person's size (1 = grown) from the length of the legs, whatever the pose."""
        hips, knees, ankles = (self.centres @ vertices).unflatten(1, (-1, 3))[:, :2].unbind(2)
        length = (hips - knees).norm(dim=-1) + (knees - ankles).norm(dim=-1)
        return (length.mean(1, keepdim=True) / _GROWN_LEG).clamp(0.4, 1.4)

    def limb_radius(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V"]:
        """Return each limb vertex's distance to the middle of its limb at its own coordinate."""
        return (vertices - self.axis @ (self.centres @ vertices)).norm(dim=-1)

    def part_legs(self, skin: Float[Tensor, "B V 3"], moved: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Stop what was moved outwards from crossing into the other leg: it ends half way between the two."""
        middles = self.centres @ skin
        own, other = self.axis @ middles, self.other_axis @ middles
        across = functional.normalize(other - own, dim=-1)
        half = (own + other) / 2
        room = ((half - skin) * across).sum(-1)
        overshoot = ((moved - half) * across).sum(-1)
        back = torch.minimum(overshoot, overshoot + room).clamp(min=0) * (room > 0) * (self.is_leg > 0.5)
        return moved - back[..., None] * across

    def sole_direction(self, normals: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Return the direction in which the sole of each vertex's foot points; zero away from the feet."""
        return self.foot_side @ functional.normalize(self.foot_normal @ normals, dim=-1)

    def levels(self, vertices: Float[Tensor, "B V 3"]) -> Levels:
        """Cut torso and legs at fixed levels from the waist to the ankles."""
        points = vertices[:, self.level_index.flatten()].unflatten(1, self.level_index.shape)
        centre = _blur(_blur(points.mean(2)))
        padded = torch.cat([centre[:, :1], centre, centre[:, -1:]], 1)
        down = functional.normalize(_blur(padded[:, 2:] - padded[:, :-2]), dim=-1)
        hips = self.centres[[0, 3]] @ vertices
        side = (hips[:, 0] - hips[:, 1])[:, None]
        side = functional.normalize(side - (side * down).sum(-1, keepdim=True) * down, dim=-1)
        front = torch.linalg.cross(down, side)
        local = (points - centre[:, :, None]) @ torch.stack([side, front], -1)
        return Levels(local, centre, side, front)

    def torso_slack(
        self, vertices: Float[Tensor, "B V 3"], drape: Float[Tensor, "B 1"], num_angles: int = 40
    ) -> tuple[Float[Tensor, "B V 1"], Float[Tensor, "B V 3"]]:
        """Return how far cloth that bridges hollows and falls from the chest stands off the torso, and where to.

        Args:
            vertices: posed skin.
            drape: how fast cloth may draw in downwards, metres per unit of `lower`; 0 falls straight.
            num_angles: directions around each level.
        """
        levels = self.levels(vertices)
        angle = torch.arange(num_angles, device=vertices.device) * (2 * torch.pi / num_angles)
        radius = fall(hull_radius(levels.support(angle), angle), drape)
        frames = torch.stack([levels.centre, levels.side, levels.front], -1).flatten(2)
        centre, side, front = (self.torso_mix @ frames).unflatten(2, (3, 3)).unbind(-1)
        local = vertices[:, self.torso_index] - centre
        x, y = (local * side).sum(-1), (local * front).sum(-1)
        own = torch.hypot(x, y).clamp(min=1e-6)
        wanted = _around(self.torso_mix @ radius, torch.atan2(y, x))
        outwards = (x / own)[..., None] * side + (y / own)[..., None] * front
        slack, direction = torch.zeros_like(vertices[..., :1]), torch.zeros_like(vertices)
        slack[:, self.torso_index] = (wanted - own).clamp(0, 0.12)[..., None]
        direction[:, self.torso_index] = outwards
        return slack, direction

    def level_mix(self, coordinate: Float[Tensor, "B R"]) -> Float[Tensor, "B R L"]:
        """Return weights that interpolate the levels linearly at coordinates `lower`."""
        place = ((coordinate - _LEVEL_START) / LEVEL_STEP).clamp(0, _NUM_LEVELS - 1)
        number = torch.arange(_NUM_LEVELS, device=coordinate.device)
        return (1 - (place[..., None] - number).abs()).clamp(min=0)

    def under_band(self, top: Float[Tensor, "B 1"], hem: Float[Tensor, "B 1"]) -> Bool[Tensor, "B V"]:
        """Tell which vertices a band from `top` to `hem` hides."""
        inside = (self.lower > top + 0.06) & (self.lower < hem - 0.06)
        return inside & (self.is_arm < 0.3) & (self.is_head < 0.3)


def fall(reach: Float[Tensor, "B L A"], drape: Float[Tensor, "B 1"]) -> Float[Tensor, "B L A"]:
    """Let cloth hang: each level reaches at least as far as the one above it, less `drape` times the distance."""
    allowance = torch.arange(reach.shape[1], device=reach.device)[:, None] * (drape[..., None] * LEVEL_STEP)
    return (reach + allowance).cummax(1).values - allowance


def _around(table: Float[Tensor, "B T A"], angle: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Read a periodic table at angles in radians, linearly."""
    place = (angle / (2 * torch.pi)) % 1 * table.shape[2]
    low = place.long().clamp(max=table.shape[2] - 1)
    ends = table.gather(2, torch.stack([low, (low + 1) % table.shape[2]], -1))
    return ends[..., 0] + (place - low) * (ends[..., 1] - ends[..., 0])


def _blur(rows: Tensor) -> Tensor:
    padded = torch.cat([rows[:, :1], rows, rows[:, -1:]], 1)
    return (padded[:, :-2] + 2 * rows + padded[:, 2:]) / 4


def _ramp(value: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """Return 0 at `low` and before, 1 at `high` and after, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def part_weight(data: BodyData, *names: str) -> NDArray[np.float64]:
    """Return how far each vertex follows the named joints (V,), 0 to 1."""
    columns = [data.joint_names.index(name) for name in names]
    return data.weights[:, columns].sum(1).astype(np.float64)


def _joint(data: BodyData, name: str) -> NDArray[np.float64]:
    return data.J_template[data.joint_names.index(name)].astype(np.float64)


def _chain(data: BodyData, side: str, names: tuple[str, ...]) -> list[str]:
    """Return the names of the joints at and below the first of a limb (fingers, toes included)."""
    return _below(data, f"{side}_{names[0]}")


def _below(data: BodyData, name: str) -> list[str]:
    """Return the name of a joint and of all that hang on it: of the head jaw and eyes, where a body has them."""
    members = {data.joint_names.index(name)}
    for j, parent in enumerate(data.parents):
        if int(parent) in members:
            members.add(j)
    return [data.joint_names[j] for j in sorted(members)]


def _along(points: NDArray[np.float64], line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where along a polyline of joints each point lies: whole numbers at joints, running on beyond both ends."""
    best, where = np.full(len(points), np.inf), np.zeros(len(points))
    for i, (a, b) in enumerate(pairwise(line)):
        raw = (points - a) @ (b - a) / ((b - a) @ (b - a))
        t = np.clip(raw, -1.5 if i == 0 else 0, 2.5 if i == len(line) - 2 else 1)
        distance = np.linalg.norm(points - a - t[:, None] * (b - a), axis=1)
        where = np.where(distance < best, i + t, where)
        best = np.minimum(distance, best)
    return where


def _parts(data: BodyData) -> dict[str, NDArray[np.float64]]:
    """Return limb memberships, coordinates along limbs, and the height on the torso."""
    out: dict[str, NDArray[np.float64]] = {}
    # SMPL has no fingers, but a joint where the middle one begins.
    knuckle = "middle1" if "left_middle1" in data.joint_names else "hand"
    for part, names, tip in (("arm", _ARM, knuckle), ("leg", _LEG, "foot")):
        members = np.stack([part_weight(data, *_chain(data, side, names)) for side in _SIDES])
        lines = [np.stack([_joint(data, f"{side}_{name}") for name in (*names, tip)]) for side in _SIDES]
        along = np.stack([_along(data.v_template.astype(np.float64), line) for line in lines])
        nearer = (members[0] < members[1]).astype(int)
        tie = members.max(0) < 1e-3
        left = data.v_template[:, 0] > 0
        nearer = np.where(tie, np.where(left, 0, 1), nearer)
        out[f"is_{part}"] = np.clip(members.sum(0), 0, 1)
        out[part] = np.take_along_axis(along, nearer[None], 0)[0]
    hip = (_joint(data, "left_hip")[1] + _joint(data, "right_hip")[1]) / 2
    out["height"] = (data.v_template[:, 1] - hip) / (_joint(data, "neck")[1] - hip)
    out["is_head"] = part_weight(data, *_below(data, "head"))
    out["is_torso"] = np.clip(1 - out["is_arm"] - out["is_leg"] - out["is_head"] - part_weight(data, "neck"), 0, 1)
    return out


def _torso(
    data: BodyData, normals: NDArray[np.float64], parts: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the weights of neckline, belly and back panel."""
    x, height, ahead = data.v_template[:, 0], parts["height"], normals[:, 2]
    between_shoulders = _ramp(-np.abs(x), -0.18, -0.12) * _ramp(-height, -1.0, -0.9)
    return {
        "front": np.exp(-((x / 0.07) ** 2)) * _ramp(ahead, 0, 0.5),
        "belly": np.exp(-(((height - 0.22) / 0.22) ** 2)) * (0.35 + 0.65 * _ramp(ahead, -0.2, 0.8)),
        "back_panel": _ramp(-ahead, 0.2, 0.6) * between_shoulders * parts["is_torso"],
    }


def _feet(data: BodyData, areas: NDArray[np.float64], normals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return soles, heels, toes, and the two rows that average the normals of each sole."""
    feet = [part_weight(data, f"{side}_ankle", f"{side}_foot") for side in _SIDES]
    both = np.clip(feet[0] + feet[1], 0, 1)
    up = data.v_template[:, 1] - data.v_template[:, 1].min()
    heel_z = (_joint(data, "left_ankle")[2] + _joint(data, "right_ankle")[2]) / 2
    flat = (both > 0.5) * areas * (normals[:, 1] < -0.7)
    return {
        "toe": part_weight(data, "left_foot", "right_foot"),
        "heel": both * _ramp(heel_z + 0.02 - data.v_template[:, 2], -0.02, 0.03),
        "sole": both * (1 - _ramp(up, 0.015, 0.05)),
        "foot_normal": np.stack([flat * foot for foot in feet]),
        "foot_side": np.stack([(foot > 0.3).astype(np.float64) for foot in feet], 1),
    }


def _head(data: BodyData) -> dict[str, NDArray[np.float64]]:
    """Return the hairline, directions from the skull's middle, and the hollow at the neck that long hair bridges."""
    v = data.v_template.astype(np.float64)
    on_head = part_weight(data, *_below(data, "head")) > 0.5
    base = _joint(data, "head")[1]
    tall = v[on_head, 1].max() - base
    upper = v[on_head & (v[:, 1] > base + 0.5 * tall)]
    middle = np.array([upper[:, 0].mean(), base + 0.6 * tall, (upper[:, 2].min() + upper[:, 2].max()) / 2])
    away = v - middle
    direction = away / np.linalg.norm(away, axis=1, keepdims=True)
    around = np.hypot(away[:, 0], away[:, 2])
    skull = np.quantile(np.hypot(*(upper - middle)[:, [0, 2]].T), 0.7)
    behind = _ramp(-away[:, 2] / np.maximum(around, 1e-6), -0.15, 0.25)
    below = _ramp(-away[:, 1], -0.03, 0.03)
    centred = _ramp(-np.abs(v[:, 0]), -0.17, -0.11)
    not_arm = part_weight(data, *_below(data, "head"), "neck", "spine3", "spine2", "left_collar", "right_collar")
    return {
        "hairline": direction @ (np.array([0, 1.0, -0.75]) / 1.25),
        "head_direction": direction,
        "neck_gap": np.clip(skull - around, 0, 0.09),
        "neck_back": behind * below * centred * np.clip(not_arm, 0, 1),
    }


def _axes(data: BodyData, areas: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return rows that average the ring of skin at each limb joint (12, V), and their mixtures by vertex (V, 12)."""
    names = [f"{side}_{name}" for limb in (_LEG, _ARM) for side in _SIDES for name in limb]
    rings = []
    for name in names:
        side, kind = name.split("_")
        parent = _ABOVE[kind] if kind == "hip" else f"{side}_{_ABOVE[kind]}"
        near = np.exp(-0.5 * (np.linalg.norm(data.v_template - _joint(data, name), axis=1) / 0.06) ** 2)
        ring = areas * (part_weight(data, name) * part_weight(data, parent) + 1e-6) * near
        rings.append(ring / ring.sum())
    axis, other = np.zeros((len(areas), 12)), np.zeros((len(areas), 12))
    parts = _parts(data)
    for i, (part, limb) in enumerate((("leg", _LEG), ("arm", _ARM))):
        at = np.clip(parts[part], 0, 2)
        hat = np.clip(1 - np.abs(at[:, None] - np.arange(3)), 0, 1)
        sides = [part_weight(data, *_chain(data, side, limb)) for side in _SIDES]
        for j in range(2):
            own = (sides[j] > 0.3)[:, None] * hat
            axis[:, 6 * i + 3 * j : 6 * i + 3 * j + 3] += own
            other[:, 6 * i + 3 * (1 - j) : 6 * i + 3 * (1 - j) + 3] += own
    return {"centres": np.stack(rings), "axis": axis, "other_axis": other}


def _waves(template: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return random waves over the rest shape (K, V) and the logarithms of their frequencies (K,)."""
    rng = np.random.default_rng(0)  # fixed: a basis, not a sample
    length = _WAVELENGTHS[0] * (_WAVELENGTHS[1] / _WAVELENGTHS[0]) ** rng.uniform(size=_NUM_WAVES)
    direction = rng.normal(size=(_NUM_WAVES, 3))
    k = direction / np.linalg.norm(direction, axis=1, keepdims=True) * (2 * np.pi / length)[:, None]
    phase = rng.uniform(0, 2 * np.pi, _NUM_WAVES)
    waves = np.cos(k @ template.T.astype(np.float64) + phase[:, None])
    return {"log_frequency": np.log(2 * np.pi / length), "waves": waves}


def _level_index(parts: dict[str, NDArray[np.float64]]) -> Int[np.ndarray, "L M"]:
    """Return the vertices nearest to each level of torso and legs; arms, head and feet are left out."""
    usable = np.flatnonzero((parts["is_arm"] < 0.1) & (parts["is_head"] < 0.1) & (parts["foot_side"].sum(1) < 0.5))
    levels = _LEVEL_START + LEVEL_STEP * np.arange(_NUM_LEVELS)
    distance = np.abs(parts["lower"][usable][None] - levels[:, None])
    return usable[np.argsort(distance, axis=1, kind="stable")[:, :_LEVEL_POINTS]]


def _level_hats(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (T, L) that interpolate the levels at coordinates `lower` (T,)."""
    place = np.clip((lower - _LEVEL_START) / LEVEL_STEP, 0, _NUM_LEVELS - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(_NUM_LEVELS)), 0, 1)


def _averaging(faces: NDArray[np.int64], num_vertices: int) -> Tensor:
    """Return the sparse (V, V) operator: a quarter the vertex, three quarters the mean of its neighbours."""
    ends = torch.from_numpy(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]))
    ends = torch.unique(torch.cat([ends, ends.flip(1)]), dim=0)
    degree = torch.bincount(ends[:, 0], minlength=num_vertices).clamp(min=1)
    loop = torch.arange(num_vertices)
    rows, columns = torch.cat([ends[:, 0], loop]), torch.cat([ends[:, 1], loop])
    values = torch.cat([0.75 / degree[ends[:, 0]].float(), torch.full((num_vertices,), 0.25)])
    size = (num_vertices, num_vertices)
    operator = torch.sparse_coo_tensor(torch.stack([rows, columns]), values, size, check_invariants=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "CSR is in beta"; it multiplies 20 times faster than COO here
        return operator.coalesce().to_sparse_csr()
