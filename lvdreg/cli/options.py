"""Options that several commands share."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer


class Unit(StrEnum):
    """Units a scan may be in; see descent/boxes.py."""

    AUTO = "auto"
    MM = "mm"
    CM = "cm"
    DM = "dm"
    M = "m"
    INCH = "inch"
    NONE = "none"


class Up(StrEnum):
    """Axes of a scan that may point up; see descent/boxes.py."""

    AUTO = "auto"
    PLUS_X = "+x"
    MINUS_X = "-x"
    PLUS_Y = "+y"
    MINUS_Y = "-y"
    PLUS_Z = "+z"
    MINUS_Z = "-z"


class Side(StrEnum):
    """Hands a scan may show."""

    AUTO = "auto"
    LEFT = "left"
    RIGHT = "right"


class Sex(StrEnum):
    """What may be known of a person in a scan; see fit/people.py."""

    MALE = "male"
    FEMALE = "female"


class Posture(StrEnum):
    """Poses in which people are scanned; see fit/known.py."""

    T = "t"
    A = "a"


class CameraKind(StrEnum):
    """Cameras that a photo may be looked at with."""

    PERSPECTIVE = "perspective"
    WEAK = "weak"


class Method(StrEnum):
    """What looks for a body in a photo."""

    LVD = "lvd"
    SMPLIFY = "smplify"
    SPIN = "spin"
    EFT = "eft"
    PYMAF = "pymaf"


class TrainedMethod(StrEnum):
    """What looks for a body in a photo by a network of its own."""

    LVD = "lvd"
    SPIN = "spin"
    PYMAF = "pymaf"


class ExampleKind(StrEnum):
    """What is registered."""

    BODY = "body"
    HAND = "hand"
    PHOTO = "photo"


class Quality(StrEnum):
    """What a registration may cost; see lvdreg/settings.py."""

    FAST = "fast"
    STANDARD = "standard"
    BEST = "best"


class ExportKind(StrEnum):
    """Formats of other programs; see lvdreg/export/run.py."""

    GLB = "glb"
    OBJ = "obj"
    BVH = "bvh"
    USD = "usd"
    NPZ = "npz"


class ExportPose(StrEnum):
    """Poses of exports."""

    SCAN = "scan"
    T = "t"
    A = "a"


class BoneNames(StrEnum):
    """Whose names joints get in exports; see lvdreg/export/bones.py."""

    SMPL = "smpl"
    MIXAMO = "mixamo"
    VRM = "vrm"


class Device(StrEnum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


ScansArgument = Annotated[
    list[str], typer.Argument(metavar="SCAN", help="Scan files, folders of scans, or patterns like 'in/*.ply'.")
]
ModelOption = Annotated[
    str, typer.Option(help="Model to register, with +d to follow the surface of the scan too: see lvdreg models.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results, one folder each.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Leave out what has its result in --out: same content, settings and version.")
]
WorkersOption = Annotated[
    int, typer.Option(min=1, max=256, help="Processes that register at once; results do not depend on it.")
]
KeptOption = Annotated[Path, typer.Option(help="Where results are kept; run again to go on.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.")]
QualityOption = Annotated[
    Quality | None, typer.Option(help="Time against accuracy; standard if neither this nor a settings file says it.")
]
MaxSigmaOption = Annotated[
    float | None, typer.Option(metavar="MM", help="Good is what is uncertain by no more than this, on average.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Settings file (TOML): lvdreg config --toml prints one to begin with."),
]
ExportOption = Annotated[
    list[ExportKind] | None,
    typer.Option(help="Write this format for other programs, too; give it again for more: see lvdreg export."),
]
ReportOption = Annotated[
    bool, typer.Option("--report", help="Build the pages of the results, too: lvdreg view does so afterwards.")
]
SeedOption = Annotated[int, typer.Option(help="Equal seeds give equal results.")]


def unfolded(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take a dataclass of options: on the command line its fields are options of their own.

    Args:
        command: A function; parameters whose annotation is a dataclass are unfolded where they stand.
    """
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in inspect.signature(command).parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters_of(groups[name]) if name in groups else [parameter]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters_of(group: Any) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters of a function."""
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(group)
    ]
