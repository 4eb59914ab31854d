"""What the user tells of the person in a scan: checked, and in the terms of the stages."""

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lvdreg.base.errors import ScanError, UsageError
from lvdreg.base.files import not_a_file, parse_json, read_bytes
from lvdreg.base.provenance import FileHashes, input_file
from lvdreg.base.shapes import FloatArray, Points, Transform
from lvdreg.base.text import one_line
from lvdreg.body.files import shipped_data
from lvdreg.body.landmarks import named_points
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.descent.boxes import Size
from lvdreg.fit.kinematics import State
from lvdreg.fit.known import HEIGHT_SIGMA, POSTURES, Known, Places, missed
from lvdreg.fit.people import SEXES, likely_height, likely_shape, people_alike, people_file
from lvdreg.fit.size import STRETCH, SizeConfig, length_range, rest_length
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.pipeline.arguments import check_height
from lvdreg.scan.model import Scan

YEARS = (0.0, 120.0)
MAX_BYTES = 1 << 20
UNLIKE = 0.08
"""A height that differs by more than this share from what the scan shows is doubted."""
HEIGHT_SPREAD = 0.03
"""How far heights that are told are off, of the logarithm, where they decide on the unit."""
FAR = 0.1
"""Metres: places further from the body than this are doubted."""
FLOOR_BAND = (0.04, 0.03)
"""Metres under and over the lowest of a person between which a floor lies that was taken out."""
FLOOR_SHARE = 0.01
LOWEST = 0.002
"""Share of a scan's points that may lie lower than its lowest: noise."""
_EXPECTED = 'expected places by joint name, as {"left_wrist": [x, y, z]} in the frame and unit of the scan'


@dataclass(frozen=True)
class Told:
    """What the user tells of a person.

    Attributes:
        height: Standing upright, metres.
        sex: One of ``SEXES``.
        age: Years.
        pose: One of ``POSTURES``.
        keypoints: File of places by joint name, or a folder of such files.
        floor: Whether the person stands on a floor.
    """

    height: float | None = None
    sex: str | None = None
    age: float | None = None
    pose: str | None = None
    keypoints: str | None = None
    floor: bool = False

    def __post_init__(self) -> None:
        check_height(self.height)
        if self.sex is not None and self.sex not in SEXES:
            raise UsageError(f"--sex: expected {' or '.join(SEXES)}, got {self.sex[:60]}")
        if self.age is not None and not YEARS[0] <= self.age <= YEARS[1]:
            raise UsageError(f"--age: expected years from {YEARS[0]:g} to {YEARS[1]:g}, got {self.age:g}")
        if self.pose is not None and self.pose not in POSTURES:
            raise UsageError(f"--pose: expected {' or '.join(POSTURES)}, got {self.pose[:60]}")


@dataclass(frozen=True)
class Person:
    """What is known of the person in one scan.

    Attributes:
        known: For the fits; its places lie in the frame of the scan.
        likely_height: Mean and standard deviation, metres: what the unit goes by.
        files: SHA-256 of what it was read from.
    """

    known: Known = field(default_factory=Known)
    likely_height: tuple[float, float] | None = None
    files: FileHashes = field(default_factory=dict)

    @classmethod
    def of(cls, told: Told, body: BodyData, scan: Scan) -> "Person":
        """Bring what the user tells to the terms of the stages.

        Args:
            told: By the user.
            body: The model that is fitted.
            scan: For its name, by which keypoints are looked for in a folder.

        Raises:
            ScanError: keypoints cannot be read, or are of joints that the body does not have.
        """
        files: FileHashes = {}
        known, likely = Known(posture=told.pose), None
        if told.sex is not None or told.age is not None:
            files |= people_file()
            people, weight = shipped_data("anny"), people_alike(told.sex, told.age)
            likely = likely_height(people, weight)
            if body.people is not None:
                known = replace(known, shape=likely_shape(body, weight))
            else:
                known = replace(known, height=likely)
        if told.height is not None:
            likely = told.height, HEIGHT_SIGMA
            known = replace(known, height=likely)
        if told.keypoints is not None:
            places, own = read_places(Path(told.keypoints), scan.name, body)
            known, files = replace(known, places=places), files | own
        return cls(known, likely, files)

    @property
    def height(self) -> float | None:
        """The height itself, metres; None where no more than what is usual is known."""
        known = self.known.height
        return None if known is None or known[1] > HEIGHT_SIGMA else known[0]

    def sizes(self, config: SizeConfig) -> SizeConfig:
        """Return which heights are likely, now that this is known."""
        if self.likely_height is None:
            return config
        height, sigma = self.likely_height
        spread = max(HEIGHT_SPREAD, sigma / height)
        return replace(config, usual=height, spread=spread, others=config.others if self.height is None else 0.0)

    def in_unit(self, T_unit_scan: Transform, body: BodyModel) -> Known:
        """Return it for a fit whose scale is free: no body is held to a height that none of its shapes has."""
        known = self.known.at(T_unit_scan)
        if known.height is None:
            return known
        low, high = length_range(body)
        return replace(
            known, height=(float(np.clip(known.height[0], STRETCH[0] * low, STRETCH[1] * high)), known.height[1])
        )

    def in_world(self, T_world_scan: Transform, body_scale: float) -> Known:
        """Return it for the world frame, of a body that is drawn ``body_scale`` times smaller than the person is."""
        return self.known.at(T_world_scan, body_scale)


def read_places(source: Path, name: str, body: BodyData) -> tuple[Places, FileHashes]:
    """Read where joints are.

    Args:
        source: A JSON file: points by name of a joint, or the same under ``keypoints``; or a folder of files NAME.json.
        name: Of the scan.
        body: Whose joints, and points such as ``nose`` and ``left_heel``.

    Returns:
        The places in the frame and unit of the scan, and the SHA-256 of the file by its name.

    Raises:
        ScanError: there is no such file, or it holds something else.
    """
    source = source.expanduser()
    path = source / f"{name}.json" if source.is_dir() else source
    if (what := not_a_file(path)) is not None:
        raise ScanError(f"{path}: {_EXPECTED}, got {what}")
    try:
        content = read_bytes(path, MAX_BYTES)
        found = parse_json(content)
        if not isinstance(found, dict) or not (found := found.get("keypoints", found)):
            raise ValueError("no joint by its name")
        names = tuple(map(str, found))
        points = np.array([[float(x) for x in found[each]] for each in names], np.float64).reshape(len(names), -1)
        if points.shape != (len(names), 3) or not len(names) or not np.isfinite(points).all():
            raise ValueError("places are three numbers each")
    except OSError as error:
        raise ScanError(f"{path}: {_EXPECTED}, got none ({error.strerror or error}); check the path") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ScanError(f"{path}: {_EXPECTED}, got something else ({one_line(str(error))[:120]})") from None
    known = named_points(body)
    for each in names:
        if each not in known.names:
            near = difflib.get_close_matches(each, known.names, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known.names[:22])} ..."
            raise ScanError(f"{path}: {one_line(each)[:60]}: {body.name} has no such joint; {hint}")
    return Places(known.chosen(names), points), {f"keypoints/{path.name}": input_file(path, content).sha256}


def floor_under(raw: Points, kept: FloatArray, T_world_scan: Transform) -> float:
    """Return the height of the floor under a person, world frame, metres: what was taken out as floor, or the lowest.

    Args:
        raw: (N, 3) points of the scan before it was cleaned, scan frame.
        kept: (P, 3) points of the person, world frame.
        T_world_scan: From the scan to the world.
    """
    lowest = float(np.quantile(kept[:, 1], LOWEST))
    finite = raw[np.isfinite(raw).all(1)]
    heights = transform_points(T_world_scan, finite)[:, 1]
    near = heights[(heights > lowest - FLOOR_BAND[0]) & (heights < lowest + FLOOR_BAND[1])]
    own = kept[kept[:, 1] < lowest + FLOOR_BAND[1], 1]
    # Of what was taken out nothing is known any more but that there is far more at that height than of the person.
    share = len(near) / max(len(heights), 1) - len(own) / len(kept)
    return float(np.median(near)) if share > FLOOR_SHARE else lowest


def with_doubts(
    fit: Fit, person: Person, known: Known, body: BodyModel, likely: Fit, T_unit_scan: Transform, size: Size
) -> Fit:
    """Add warnings to a fit where what was told does not go with the scan.

    Args:
        fit: To the network's vertices.
        person: What was told.
        known: The same in the frame of the fit.
        body: The model.
        likely: Fit whose scale was free, in the unit frame.
        T_unit_scan: From the scan to that.
        size: Unit and factor to metres.
    """
    warnings = list(fit.warnings)
    metres = likely.scale * scale_of(T_unit_scan)
    shown = rest_length(body, likely.params.betas) * size.metres_per_scan_unit / metres
    if person.height is not None and abs(shown / person.height - 1) > UNLIKE:
        warnings.append(
            f"the person in the scan is about {shown:.2f} m tall, --height says {person.height:.2f} m: check it, and "
            "--unit"
        )
    far = missed(known, body.data, State.from_params(fit.params))
    if far > FAR:
        warnings.append(
            f"half of the keypoints lie over {100 * far:.0f} cm from the body: check their frame and unit, or give --up"
        )
    return replace(fit, warnings=tuple(warnings))
