"""Anatomical landmarks: where on the free bodies they lie, by their definitions, and on every other model through it.

Each is found on the mean person at rest from joints and the skin alone: a straight line from a place inside leaves the
body there, or it is the farthest point of a region in one direction. Names are those of CAESAR (Robinette and others,
2002); those without a name in CAESAR are needed for measures. Heights that no joint tells are shares of the stature,
from Gordon and others, "2012 Anthropometric Survey of U.S. Army Personnel" (ANSUR II), means of both sexes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import BodyData
from lvdreg.geometry.mesh import unit_rows
from lvdreg.geometry.rays import RayCaster

Triple = tuple[float, float, float]
FRONT, BACK, OUT, IN, UP, DOWN = (0, 0, 1), (0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)
"""Directions in the frame of a rule: x away from the middle, y up, z to the front. In the frame of an elbow x points
to the lateral epicondyle, y up the forearm, z to the side that bends; in that of a hand x points to the thumb's side,
y to the wrist, z out of the palm."""


@dataclass(frozen=True)
class Rule:
    """Where a landmark lies on the mean person at rest.

    Attributes:
        joint: From where; of a pair without its side.
        offset: Millimetres from there, in the frame.
        towards: Direction in the frame, to where the skin is met.
        height: Share of the stature at which the start lies instead of the joint's height; None: at that.
        reach: 0: the skin that a straight line meets. Otherwise the vertex that lies farthest in the direction, among
            those within so many millimetres of the start.
        frame: "body", "elbow" or "hand".
    """

    joint: str
    offset: Triple
    towards: Triple
    height: float | None = None
    reach: float = 0.0
    frame: str = "body"


MIDDLE: dict[str, Rule] = {
    "Sellion": Rule("head", (0, 41, 40), FRONT),
    "Supramenton": Rule("head", (0, -50, 40), FRONT),
    "Nuchale": Rule("head", (0, -4, 0), BACK),
    "Cervicale": Rule("neck", (0, 0, 0), BACK, height=0.862),
    "Suprasternale": Rule("neck", (0, -46, 0), FRONT),
    "Substernale": Rule("spine3", (0, -18, 60), FRONT),
    "10th Rib Midspine": Rule("spine2", (0, 0, 0), BACK, height=0.634),
    "Waist, Preferred, Post.": Rule("spine1", (0, 0, 0), BACK, height=0.60),
}
PAIRED: dict[str, Rule] = {
    "Infraorbitale": Rule("head", (33, 21, 60), FRONT),
    "Tragion": Rule("head", (40, 24, 20), OUT),
    "Gonion": Rule("head", (20, -36, 24), OUT),
    "Clavicale": Rule("neck", (24, -38, 0), FRONT),
    "Acromion": Rule("shoulder", (12, 0, -5), UP),
    "Axilla, Ant.": Rule("shoulder", (-12, -58, 0), FRONT),
    "Axilla, Post.": Rule("shoulder", (-12, -60, 0), BACK),
    "Thelion/Bustpoint": Rule("spine3", (85, -36, 170), FRONT, reach=45),
    "10th Rib": Rule("spine2", (0, 0, 60), (1, 0, 0.7), height=0.634),
    "Iliocristale": Rule("spine1", (0, 0, 70), OUT, height=0.61),
    "ASIS": Rule("hip", (12, 73, 0), FRONT),
    "PSIS": Rule("hip", (-67, 96, 0), BACK),
    "Trochanterion": Rule("hip", (0, 10, 0), OUT),
    "Femoral Lateral Epicn": Rule("knee", (0, -16, -12), OUT),
    "Femoral Medial Epicn": Rule("knee", (0, -16, -12), IN),
    "Knee Crease": Rule("knee", (0, -34, 0), BACK),
    "Lateral Malleolus": Rule("ankle", (0, -9, -2), OUT),
    "Medial Malleolus": Rule("ankle", (0, 4, 8), IN),
    "Sphyrion": Rule("ankle", (0, -12, 6), IN),
    "Calcaneous, Post.": Rule("ankle", (-2, -45, -40), BACK, reach=35),
    "Metatarsal Phal. I": Rule("foot", (-50, -6, -8), IN, reach=28),
    "Metatarsal Phal. V": Rule("foot", (40, -8, -30), OUT, reach=28),
    "Digit II": Rule("foot", (-16, -14, 0), FRONT),
    "Humeral Lateral Epicn": Rule("elbow", (0, 6, -4), OUT, frame="elbow"),
    "Humeral Medial Epicn": Rule("elbow", (0, 6, -4), IN, frame="elbow"),
    "Olecranon": Rule("elbow", (0, 0, 0), (0, 0.7, -0.7), frame="elbow"),
    "Radiale": Rule("elbow", (0, -18, -4), OUT, frame="elbow"),
    "Radial Styloid": Rule("wrist", (0, 10, 0), OUT, frame="hand"),
    "Ulnar Styloid": Rule("wrist", (0, 10, 0), (-1, 0, -0.5), frame="hand"),
    "Metacarpal Phal. II": Rule("index1", (0, 0, 0), OUT, frame="hand"),
    "Metacarpal Phal. V": Rule("pinky1", (0, 0, 0), IN, frame="hand"),
    "Dactylion": Rule("middle3", (0, -15, 0), DOWN, reach=30, frame="hand"),
}
MORE_MIDDLE: dict[str, Rule] = {
    "Glabella": Rule("head", (0, 62, 40), FRONT),
    "Menton": Rule("head", (0, -48, 86), DOWN),
    "Crotch": Rule("pelvis", (0, -60, 0), DOWN),
    "Opisthocranion": Rule("head", (0, 80, -60), BACK, reach=50),
    "Larynx": Rule("neck", (0, 12, 0), FRONT),
    "Waist, Front": Rule("spine2", (0, 0, 0), FRONT, height=0.622),
    "Waist, Back": Rule("spine2", (0, 0, 0), BACK, height=0.622),
}
MORE_PAIRED: dict[str, Rule] = {
    "Pupil": Rule("head", (33, 39, 60), FRONT),
    "Neck Point": Rule("neck", (30, 0, -5), (1, 0.55, 0)),
    "Inframammary": Rule("spine3", (85, -72, 60), FRONT),
    "Patella": Rule("knee", (0, -22, 0), FRONT),
    "Wrist Crease": Rule("wrist", (0, 0, 0), FRONT, frame="hand"),
    "Gluteal Fold": Rule("hip", (-20, -88, 0), BACK),
    "Armpit": Rule("shoulder", (10, 0, 0), DOWN),
    "Waist, Side": Rule("spine2", (0, 0, 60), OUT, height=0.622),
}
HAND: dict[str, Rule] = {
    "Radial Styloid": Rule("wrist", (0, -6, 0), OUT, frame="hand"),
    "Ulnar Styloid": Rule("wrist", (0, -6, 0), IN, frame="hand"),
    "Wrist Crease": Rule("wrist", (0, -6, 0), FRONT, frame="hand"),
    "Metacarpal Phal. II": Rule("index1", (0, 0, 0), OUT, frame="hand"),
    "Metacarpal Phal. V": Rule("pinky1", (0, 0, 0), IN, frame="hand"),
    "Dactylion": Rule("middle3", (0, -15, 0), DOWN, reach=30, frame="hand"),
}
FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def caesar_names() -> tuple[str, ...]:
    """Return the names of the landmarks of CAESAR that a body has."""
    return (*MIDDLE, *(f"{side} {name}" for name in PAIRED for side in ("Lt.", "Rt.")))


def on_template(data: BodyData) -> dict[str, FloatArray]:
    """Find all landmarks on a free body: name to the place (3,) on its mean person at rest, metres.

    Raises:
        ValueError: a line from a joint does not leave the body: the rules are of another body.
    """
    finder = _Finder(data)
    if data.is_hand:
        return {name: finder.place(rule) for name, rule in {**HAND, **finger_rules(data)}.items()}
    places = {name: finder.place(rule) * (0, 1, 1) for name, rule in {**MIDDLE, **MORE_MIDDLE}.items()}
    for name, rule in {**PAIRED, **MORE_PAIRED}.items():
        places[f"Lt. {name}"] = finder.place(rule)
        places[f"Rt. {name}"] = places[f"Lt. {name}"] * (-1, 1, 1)
    return places


def finger_rules(data: BodyData) -> dict[str, Rule]:
    """Return the rules of each finger of a hand: its tip, and its crease at the palm, half along the first bone.

    The thumb's crease is at the joint of its two bones that are free of the palm.
    """
    joints = dict(zip(data.joint_names, np.asarray(data.J_template, np.float64), strict=True))
    rules = {}
    for finger in FINGERS:
        half = 0.0 if finger == "thumb" else 500 * float(np.linalg.norm(joints[f"{finger}2"] - joints[f"{finger}1"]))
        root = f"{finger}2" if finger == "thumb" else f"{finger}1"
        word = finger.replace("pinky", "little").capitalize()
        rules[f"{word} Tip"] = Rule(f"{finger}3", (0, -12, 0), DOWN, reach=22, frame="finger")
        rules[f"{word} Crease"] = Rule(root, (0, -half, 0), FRONT, frame="finger")
    return rules


class _Finder:
    """A body at rest, ready for rules."""

    def __init__(self, data: BodyData) -> None:
        self.vertices, self.faces = np.asarray(data.v_template, np.float64), np.asarray(data.faces, np.int64)
        self.joints = dict(zip(data.joint_names, np.asarray(data.J_template, np.float64), strict=True))
        self.side, self.is_hand = "" if data.is_hand else "left_", data.is_hand
        self.rays = RayCaster(self.vertices, self.faces)

    def place(self, rule: Rule) -> FloatArray:
        """Return where a landmark lies (3,)."""
        frame = self._frame(rule)
        start = self._joint(rule.joint) + 0.001 * np.asarray(rule.offset) @ frame
        if rule.height is not None:
            low, high = self.vertices[:, 1].min(), self.vertices[:, 1].max()
            start[1] = low + rule.height * (high - low)
        towards = unit_rows(np.asarray(rule.towards, np.float64) @ frame)
        if rule.reach:
            near = self.vertices[np.linalg.norm(self.vertices - start, axis=1) < 0.001 * rule.reach]
            return np.asarray(near[(near @ towards).argmax()])
        face, distance = self.rays.first_hits(start[None], towards[None])
        if face[0] < 0:
            raise ValueError(f"no skin {rule.towards} of {rule.joint}")
        return start + distance[0] * towards

    def _joint(self, name: str) -> FloatArray:
        return self.joints[name if name in self.joints else f"{self.side}{name}"]

    def _frame(self, rule: Rule) -> Float64[np.ndarray, "3 3"]:
        """Return the axes of a rule's frame, one a row; see ``FRONT``."""
        if rule.frame == "body":
            return np.eye(3)
        wrist = self._joint("wrist")
        if rule.frame == "elbow":
            above, elbow = self._joint("shoulder"), self._joint("elbow")
            return _axes(-np.cross(elbow - above, wrist - elbow), elbow - wrist, 1.0)
        thumb_side = self._joint("index1") - self._joint("pinky1")
        back = wrist - self._joint("middle1")
        if rule.frame == "finger":
            finger, number = rule.joint[:-1], int(rule.joint[-1])
            last = min(number + 1, 3)
            back = self._joint(f"{finger}{last - 1}") - self._joint(f"{finger}{last}")
        # The mirror image of a left hand: the palm is on the other side of the two axes.
        return _axes(thumb_side, back, -1.0 if self.is_hand else 1.0, keep_second=True)


def _axes(x: FloatArray, y: FloatArray, hand: float, keep_second: bool = False) -> Float64[np.ndarray, "3 3"]:
    """Return unit axes at right angles near two directions; the third is their cross product times ``hand``."""
    first, second = (y, x) if keep_second else (x, y)
    first = unit_rows(first)
    second = unit_rows(second - (second @ first) * first)
    x, y = (second, first) if keep_second else (first, second)
    return np.stack([x, y, hand * np.cross(x, y)])
