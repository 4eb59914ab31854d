"""The measures: names and definitions, as data; how each kind is read off a body is in readings.py.

Names follow ISO 8559-1 (garments) and ISO 7250-1 (design); where both have a measure, it is one. Measures of limbs are
taken on the right, and the free bodies' shapes are symmetric. A girth is a taut tape (convex hull), a length follows
the surface where a tape would, heights are above the floor.
"""

from dataclasses import dataclass

GARMENT, DESIGN, BOTH = "ISO 8559-1", "ISO 7250-1", "ISO 8559-1, ISO 7250-1"
Vector = tuple[float, float, float]
UP, FRONT, BACK, OUT, DOWN = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)
"""Directions of who stands; OUT is that of the right side."""
X = (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Plane:
    """Where a body is cut.

    Attributes:
        at: Landmarks or joints through whose mean the plane goes.
        normal: Across it; or two landmarks or joints, from the one to the other.
        holds: Instead of a normal: two more landmarks and a direction that lie in it.
        only: Parts of the body that are cut; the others are looked through.
        one: Of several lines the nearest to ``at``.
        to: Also every level from ``at`` to here is tried.
        pick: Which level is taken: "max" or "min" of what is measured.
        shift: Share of the way from ``at`` to ``to`` at which one level lies; None: all are tried.
    """

    at: tuple[str, ...]
    only: tuple[str, ...]
    normal: Vector | tuple[str, str] = UP
    holds: tuple[str, str, Vector] | None = None
    one: bool = False
    to: tuple[str, ...] = ()
    pick: str = "max"
    shift: float | None = None


@dataclass(frozen=True)
class Girth:
    """A taut tape around a section."""

    plane: Plane


@dataclass(frozen=True)
class Across:
    """The extent of a section in a direction; or from the one joint or landmark to the other."""

    plane: Plane
    axis: Vector | tuple[str, str]


@dataclass(frozen=True)
class Height:
    """A landmark's height above the floor, or above another; ``top``: () is the top of the head."""

    top: tuple[str, ...]
    bottom: tuple[str, ...] = ()


@dataclass(frozen=True)
class Straight:
    """The straight distance of two places, each the mean of landmarks."""

    start: tuple[str, ...]
    end: tuple[str, ...]


@dataclass(frozen=True)
class Extent:
    """The extent of a part along the line through two landmarks."""

    part: str
    axis: tuple[str, str]


@dataclass(frozen=True)
class Path:
    """A tape over the surface from landmark to landmark, on the side of the body that ``outward`` says for each leg."""

    places: tuple[str, ...]
    outward: tuple[Vector, ...]
    taut: bool = True
    down: bool = False
    """From the last one on straight down to the floor."""


How = Girth | Across | Height | Straight | Extent | Path


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: Its name in the standard, in words.
        kind: "height", "girth", "length" or "breadth".
        standard: Which names it.
        definition: In words.
        how: In data.
    """

    name: str
    kind: str
    standard: str
    definition: str
    how: How


_TRUNK = ("trunk", "neck", "left thigh", "right thigh")
_ARM, _LEG = ("right upper arm", "right forearm"), ("right thigh", "right shin", "right foot")
_SHIN = ("right shin", "right foot", "right thigh")
_UPPER, _LOWER = ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")
_WAIST = ("Rt. Waist, Side", "Lt. Waist, Side")
_BUSTPOINT = "Rt. Thelion/Bustpoint"
_HIP = Plane(("Rt. ASIS", "Lt. ASIS"), _TRUNK, to=("Rt. Gluteal Fold", "Lt. Gluteal Fold"))
_HEAD = Plane(("Glabella",), ("head",), holds=("Glabella", "Opisthocranion", X))
_BUST = Plane((_BUSTPOINT, "Lt. Thelion/Bustpoint"), _TRUNK)


def _level(*at: str) -> Plane:
    return Plane(at, _TRUNK)


def _girth(name: str, standard: str, definition: str, plane: Plane) -> Measure:
    return Measure(name, "girth", standard, definition, Girth(plane))


HEIGHTS = (
    Measure("stature", "height", BOTH, "top of the head above the floor", Height(())),
    Measure("eye height", "height", DESIGN, "pupil above the floor", Height(("Rt. Pupil", "Lt. Pupil"))),
    Measure("cervical height", "height", BOTH, "seventh cervical vertebra above the floor", Height(("Cervicale",))),
    Measure("shoulder height", "height", DESIGN, "acromion above the floor", Height(("Rt. Acromion",))),
    Measure("bust height", "height", GARMENT, "bust point above the floor", Height((_BUSTPOINT,))),
    Measure("waist height", "height", GARMENT, "waist level above the floor", Height(_WAIST)),
    Measure(
        "iliac spine height", "height", DESIGN, "anterior superior iliac spine above the floor", Height(("Rt. ASIS",))
    ),
    Measure("trochanter height", "height", GARMENT, "trochanterion above the floor", Height(("Rt. Trochanterion",))),
    Measure("crotch height", "height", BOTH, "crotch above the floor: the inside leg", Height(("Crotch",))),
    Measure("knee height", "height", GARMENT, "middle of the patella above the floor", Height(("Rt. Patella",))),
    Measure("ankle height", "height", GARMENT, "lateral malleolus above the floor", Height(("Rt. Lateral Malleolus",))),
    Measure("trunk length", "height", GARMENT, "cervicale above the crotch", Height(("Cervicale",), ("Crotch",))),
    Measure("body rise", "height", GARMENT, "waist level above the crotch", Height(_WAIST, ("Crotch",))),
)
GIRTHS = (
    _girth("head girth", BOTH, "over glabella and the back of the head, above the ears", _HEAD),
    _girth(
        "neck girth",
        BOTH,
        "below the larynx, across the neck",
        Plane(("Larynx",), ("neck", "head", "trunk"), ("neck", "head"), one=True),
    ),
    _girth(
        "neck base girth",
        GARMENT,
        "through cervicale and suprasternale",
        Plane(("Suprasternale",), ("neck", "trunk"), holds=("Suprasternale", "Cervicale", X), one=True),
    ),
    _girth(
        "chest girth",
        GARMENT,
        "level, at the folds of the armpits",
        _level("Rt. Axilla, Ant.", "Lt. Axilla, Ant.", "Rt. Axilla, Post.", "Lt. Axilla, Post."),
    ),
    _girth("bust girth", BOTH, "level, at the bust points (chest circumference of ISO 7250-1)", _BUST),
    _girth("underbust girth", GARMENT, "level, below the breasts", _level("Rt. Inframammary", "Lt. Inframammary")),
    _girth("waist girth", BOTH, "level, halfway between the lowest rib and the iliac crest", _level(*_WAIST)),
    _girth("top hip girth", GARMENT, "level, at the iliac spines", _level("Rt. ASIS", "Lt. ASIS")),
    _girth("hip girth", GARMENT, "level, the largest between iliac spines and gluteal folds", _HIP),
    _girth(
        "thigh girth",
        BOTH,
        "level, 5 % of the way from crotch to knee below the crotch",
        Plane(("Crotch",), (*_LEG, "trunk"), one=True, to=("Rt. Patella",), shift=0.05),
    ),
    _girth(
        "mid-thigh girth",
        GARMENT,
        "level, halfway between crotch and knee",
        Plane(("Crotch",), _LEG, to=("Rt. Patella",), shift=0.5),
    ),
    _girth("knee girth", GARMENT, "level, at the middle of the patella", (Plane(("Rt. Patella",), _LEG))),
    _girth(
        "calf girth",
        BOTH,
        "level, the largest of the lower two thirds of the lower leg",
        Plane(("Rt. Patella", "Rt. Patella", "Rt. Lateral Malleolus"), _SHIN, to=("Rt. Lateral Malleolus",)),
    ),
    _girth(
        "minimum leg girth",
        GARMENT,
        "level, the smallest of the lower leg",
        Plane(("Rt. Patella",), _SHIN, to=("Rt. Lateral Malleolus",), pick="min"),
    ),
    _girth("ankle girth", GARMENT, "level, at the medial malleolus", (Plane(("Rt. Medial Malleolus",), _SHIN))),
    _girth(
        "foot girth",
        GARMENT,
        "upright, over the first and the fifth metatarsal",
        (
            Plane(
                ("Rt. Metatarsal Phal. I",),
                ("right foot",),
                holds=("Rt. Metatarsal Phal. I", "Rt. Metatarsal Phal. V", UP),
            )
        ),
    ),
    _girth(
        "armscye girth",
        GARMENT,
        "over the acromion and through the armpit",
        Plane(("Rt. Acromion",), ("right upper arm", "trunk"), holds=("Rt. Acromion", "Rt. Armpit", FRONT), one=True),
    ),
    _girth(
        "upper arm girth",
        GARMENT,
        "across the arm, halfway from acromion to elbow",
        Plane(("Rt. Acromion", "Rt. Olecranon"), _ARM, _UPPER),
    ),
    _girth(
        "elbow girth",
        GARMENT,
        "across the arm, at the lateral epicondyle",
        Plane(("Rt. Humeral Lateral Epicn",), _ARM, _LOWER),
    ),
    _girth(
        "forearm girth",
        GARMENT,
        "across the arm, the largest between elbow and wrist",
        Plane(("Rt. Radiale",), _ARM, _LOWER, to=("Rt. Ulnar Styloid",)),
    ),
    _girth(
        "wrist girth",
        BOTH,
        "across the arm, at the ulnar styloid",
        Plane(("Rt. Ulnar Styloid",), ("right forearm", "right hand"), _LOWER),
    ),
    _girth(
        "hand girth",
        GARMENT,
        "over the heads of the second and the fifth metacarpal, without the thumb",
        (
            Plane(
                ("Rt. Metacarpal Phal. II", "Rt. Metacarpal Phal. V"), ("right hand",), ("right_wrist", "Rt. Dactylion")
            )
        ),
    ),
)
LENGTHS = (
    Measure(
        "back waist length",
        "length",
        GARMENT,
        "from cervicale down the spine to the waist",
        Path(("Cervicale", "Waist, Back"), (BACK,)),
    ),
    Measure(
        "front waist length",
        "length",
        GARMENT,
        "from neck point over the bust point to the waist",
        Path(("Rt. Neck Point", _BUSTPOINT, "Waist, Front"), (FRONT, FRONT)),
    ),
    Measure(
        "neck point to bust point", "length", GARMENT, "over the chest", Path(("Rt. Neck Point", _BUSTPOINT), (FRONT,))
    ),
    Measure(
        "shoulder length",
        "length",
        GARMENT,
        "from neck point to acromion",
        Path(("Rt. Neck Point", "Rt. Acromion"), (UP,)),
    ),
    Measure(
        "shoulder width",
        "length",
        GARMENT,
        "from acromion to acromion over the back",
        Path(("Rt. Acromion", "Lt. Acromion"), (BACK,)),
    ),
    Measure(
        "back width",
        "length",
        GARMENT,
        "over the back, between the folds of the armpits",
        Path(("Rt. Axilla, Post.", "Lt. Axilla, Post."), (BACK,)),
    ),
    Measure(
        "chest width",
        "length",
        GARMENT,
        "over the chest, between the folds of the armpits",
        Path(("Rt. Axilla, Ant.", "Lt. Axilla, Ant."), (FRONT,)),
    ),
    Measure("bust point distance", "length", GARMENT, "straight", Straight((_BUSTPOINT,), ("Lt. Thelion/Bustpoint",))),
    Measure(
        "upper arm length",
        "length",
        GARMENT,
        "from acromion to the tip of the elbow",
        Path(("Rt. Acromion", "Rt. Olecranon"), (OUT,)),
    ),
    Measure(
        "lower arm length",
        "length",
        GARMENT,
        "from the tip of the elbow to the ulnar styloid",
        Path(("Rt. Olecranon", "Rt. Ulnar Styloid"), (OUT,)),
    ),
    Measure(
        "arm length",
        "length",
        GARMENT,
        "from acromion over the elbow to the wrist",
        Path(("Rt. Acromion", "Rt. Olecranon", "Rt. Ulnar Styloid"), (OUT, OUT)),
    ),
    Measure(
        "cervicale to wrist length",
        "length",
        GARMENT,
        "over acromion and elbow: the sleeve",
        Path(("Cervicale", "Rt. Acromion", "Rt. Olecranon", "Rt. Ulnar Styloid"), (UP, OUT, OUT)),
    ),
    Measure(
        "waist to hip length",
        "length",
        GARMENT,
        "down the side, to the trochanterion",
        Path(("Rt. Waist, Side", "Rt. Trochanterion"), (OUT,)),
    ),
    Measure(
        "outside leg length",
        "length",
        GARMENT,
        "from the waist over the hip, then straight down to the floor",
        Path(("Rt. Waist, Side", "Rt. Trochanterion"), (OUT,), down=True),
    ),
    Measure(
        "crotch length",
        "length",
        GARMENT,
        "from the front of the waist through the crotch to its back",
        Path(("Waist, Front", "Crotch", "Waist, Back"), (FRONT, BACK)),
    ),
    Measure(
        "hand length",
        "length",
        BOTH,
        "straight from the styloids to the tip of the middle finger",
        Straight(("Rt. Radial Styloid", "Rt. Ulnar Styloid"), ("Rt. Dactylion",)),
    ),
    Measure(
        "foot length",
        "length",
        BOTH,
        "from the heel to the tip of the toes",
        Extent("right foot", ("Rt. Calcaneous, Post.", "Rt. Digit II")),
    ),
    Measure(
        "head length",
        "length",
        DESIGN,
        "straight from glabella to the back of the head",
        Straight(("Glabella",), ("Opisthocranion",)),
    ),
    Measure("face length", "length", DESIGN, "straight from sellion to menton", Straight(("Sellion",), ("Menton",))),
    Measure(
        "bitragion arc",
        "length",
        DESIGN,
        "from tragion to tragion over the head",
        Path(("Rt. Tragion", "Lt. Tragion"), (UP,)),
    ),
    Measure(
        "sagittal arc",
        "length",
        DESIGN,
        "from glabella over the head to the nape",
        Path(("Glabella", "Nuchale"), (UP,)),
    ),
)
BREADTHS = (
    Measure(
        "shoulder breadth",
        "breadth",
        DESIGN,
        "straight between the acromia",
        Straight(("Rt. Acromion",), ("Lt. Acromion",)),
    ),
    Measure("chest breadth", "breadth", DESIGN, "at the bust points", Across(_BUST, X)),
    Measure("chest depth", "breadth", DESIGN, "at the bust points", Across(_BUST, FRONT)),
    Measure("waist breadth", "breadth", GARMENT, "at the waist", Across(_level(*_WAIST), X)),
    Measure("waist depth", "breadth", GARMENT, "at the waist", Across(_level(*_WAIST), FRONT)),
    Measure("hip breadth", "breadth", DESIGN, "the largest between iliac spines and gluteal folds", Across(_HIP, X)),
    Measure("head breadth", "breadth", DESIGN, "above the ears", Across(_HEAD, X)),
    Measure(
        "bigonial breadth",
        "breadth",
        DESIGN,
        "straight between the angles of the jaw",
        Straight(("Rt. Gonion",), ("Lt. Gonion",)),
    ),
    Measure(
        "hand breadth",
        "breadth",
        BOTH,
        "over the heads of the second and the fifth metacarpal",
        Straight(("Rt. Metacarpal Phal. II",), ("Rt. Metacarpal Phal. V",)),
    ),
    Measure(
        "foot breadth",
        "breadth",
        BOTH,
        "over the first and the fifth metatarsal",
        Straight(("Rt. Metatarsal Phal. I",), ("Rt. Metatarsal Phal. V",)),
    ),
)
BODY = (*HEIGHTS, *GIRTHS, *LENGTHS, *BREADTHS)


def _finger(word: str) -> Measure:
    return Measure(
        f"{word} finger length" if word != "thumb" else "thumb length",
        "length",
        DESIGN,
        "straight from the crease at the palm to the tip",
        Straight((f"{word.capitalize()} Crease",), (f"{word.capitalize()} Tip",)),
    )


_THUMB_SIDE = ("pinky1", "index1")
HAND = (
    Measure(
        "hand length",
        "length",
        BOTH,
        "straight from the styloids to the tip of the middle finger",
        Straight(("Radial Styloid", "Ulnar Styloid"), ("Dactylion",)),
    ),
    Measure(
        "palm length",
        "length",
        DESIGN,
        "straight from the wrist to the crease of the middle finger",
        Straight(("Wrist Crease",), ("Middle Crease",)),
    ),
    *(_finger(word) for word in ("thumb", "index", "middle", "ring", "little")),
    Measure(
        "hand breadth",
        "breadth",
        BOTH,
        "over the heads of the second and the fifth metacarpal",
        Straight(("Metacarpal Phal. II",), ("Metacarpal Phal. V",)),
    ),
    Measure(
        "wrist breadth",
        "breadth",
        DESIGN,
        "straight between the styloids",
        Straight(("Radial Styloid",), ("Ulnar Styloid",)),
    ),
    _girth(
        "hand girth",
        GARMENT,
        "over the heads of the second and the fifth metacarpal, without the thumb",
        Plane(("Metacarpal Phal. II", "Metacarpal Phal. V"), ("hand",), ("wrist", "Dactylion")),
    ),
    Measure(
        "index finger breadth, proximal",
        "breadth",
        DESIGN,
        "at the middle joint",
        Across(Plane(("index2",), ("hand",), ("index1", "index3"), one=True), _THUMB_SIDE),
    ),
    Measure(
        "index finger breadth, distal",
        "breadth",
        DESIGN,
        "at the outer joint",
        Across(Plane(("index3",), ("hand",), ("index2", "index3"), one=True), _THUMB_SIDE),
    ),
)
