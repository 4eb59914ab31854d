"""``lvdreg image``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.batch import Batch, check_out, limits_of, register_all
from lvdreg.cli.config import chosen_settings
from lvdreg.cli.options import (
    CameraKind,
    ConfigOption,
    Device,
    DeviceOption,
    ExportOption,
    MaxSigmaOption,
    Method,
    ModelOption,
    OutOption,
    QualityOption,
    ReportOption,
    ResumeOption,
    WorkersOption,
)
from lvdreg.cli.status import plain_errors

if TYPE_CHECKING:
    from lvdreg.batch import Result

MASK_MODES = ("auto", "none", "rembg")


def image(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO", help="Photos, folders of photos, or patterns like 'in/*.jpg'.")
    ],
    mask: Annotated[
        str,
        typer.Option(
            metavar="auto|none|rembg|FILE",
            help="Which pixels are the person: found or the alpha channel; not known; by rembg; white in a picture.",
        ),
    ] = "auto",
    person: Annotated[int | None, typer.Option(min=1, help="Which of several people: 1 is the most prominent.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Register everybody, each in a folder of their own.")] = False,
    same_person: Annotated[
        bool, typer.Option("--same-person", help="The photos show one person: all get the same shape.")
    ] = False,
    views: Annotated[
        bool, typer.Option("--views", help="2 to 8 photos from around one standing person: the same pose, too.")
    ] = False,
    keypoints: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Keypoints by OpenPose or COCO (JSON), or a folder of such files."),
    ] = None,
    places: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=X,Y", help="Move a keypoint, such as left_knee=412,633.")
    ] = None,
    height: Annotated[
        float | None, typer.Option(metavar="METRES", help="Height of the person; guessed if not given.")
    ] = None,
    camera: Annotated[
        CameraKind, typer.Option(help="How depth is seen: weak is a camera so far away that it moves nothing.")
    ] = CameraKind.PERSPECTIVE,
    focal: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Focal length on 35 mm film; by EXIF data, else the likeliest."),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="What looks for the body: learned vertex descent, or a fit to keypoints alone.")
    ] = Method.LVD,
    model: ModelOption = "anny",
    refine: Annotated[bool, typer.Option(help="Refine the body against outline and keypoints.")] = True,
    quality: QualityOption = None,
    config: ConfigOption = None,
    out: OutOption = Path("out"),
    device: DeviceOption = Device.CPU,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if a verdict is not good.")] = False,
    max_sigma: MaxSigmaOption = None,
    resume: ResumeOption = False,
    workers: WorkersOption = 1,
    export: ExportOption = None,
    report: ReportOption = False,
) -> None:
    """Register photos of people: fit a body model to each and write overlay, meshes, parameters and report."""
    with plain_errors():
        from lvdreg.batch import PHOTO_SUFFIXES, expand_inputs
        from lvdreg.cli.doctor import check_device, check_model

        check_out(out)
        check_model(model)
        sources = expand_inputs(photos, PHOTO_SUFFIXES)
        moved = parse_places(places or [])
        check_together(mask, person, everyone, len(sources), keypoints, moved)
        same = "pose" if views else "shape" if same_person else None
        check_same(same, everyone, len(sources))
        if same is not None and workers > 1:
            raise UsageError("--workers: photos of one person are registered together: leave it out")
        settings = chosen_settings("image", config, quality, max_sigma_mm=max_sigma)
        options: dict[str, Any] = {"model": model, "height": height, "refine": refine, "keypoints": keypoints}
        options |= {"camera": camera.value, "focal": focal, "method": method.value}
        options |= {"device": check_device(device.value), "settings": settings}
        if not everyone:
            options |= {"mask": mask, "person": person}
        if not everyone and same is None:
            options |= {"set_keypoints": moved}
        if same is not None:
            options |= {"same": same, "together": [str(source) for source in sources]}
        registrar = photo_registrar(everyone, same is not None)
        how: Batch = {"resume": resume, "strict": strict, "workers": workers, "exports": export or (), "report": report}
        how["limits"] = limits_of(photos, len(sources), same is not None)
        register_all(sources, out, registrar, **how, **options)


def parse_places(words: list[str]) -> dict[str, tuple[float, float]]:
    """Parse what ``--set`` says.

    Raises:
        UsageError: it is not NAME=X,Y.
    """
    places: dict[str, tuple[float, float]] = {}
    for word in words:
        name, _, place = word.partition("=")
        try:
            x, y = map(float, place.split(","))
        except ValueError:
            raise UsageError(f"--set: expected NAME=X,Y in pixels, as left_knee=412,633; got {word[:60]}") from None
        places[name.strip()] = (x, y)
    return places


def check_together(
    mask: str,
    person: int | None,
    everyone: bool,
    count: int,
    keypoints: str | None = None,
    places: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Refuse options that mean nothing together.

    Raises:
        UsageError: says which.
    """
    if everyone and (person is not None or mask != "auto"):
        other = "--person" if person is not None else "--mask"
        raise UsageError(f"--all: expected it without {other}, got both; everybody's mask is found by itself")
    if places and (everyone or count > 1):
        raise UsageError("--set: expected one photo and one person, whom --person chooses; got more")
    if keypoints is not None and count > 1:
        from lvdreg.photo.given import is_of_many

        if not is_of_many(Path(keypoints).expanduser()):
            raise UsageError(
                f"--keypoints: expected a folder, or a file that names photos, for {count} photos; got {keypoints}"
            )
    if mask not in MASK_MODES and count > 1:
        raise UsageError(f"--mask: expected one photo for the mask {mask}, got {count}; register them one by one")


def check_same(same: str | None, everyone: bool, count: int) -> None:
    """Refuse what photos of one person cannot be.

    Raises:
        UsageError: says what.
    """
    if same is None:
        return
    from lvdreg.pipeline.photos import OPTIONS, check_count

    if everyone:
        raise UsageError(f"{OPTIONS[same]}: expected it without --all, got both; --person says who it is in each photo")
    check_count(same, count)


def photo_registrar(everyone: bool, together: bool = False) -> "Callable[..., Result]":
    """Return the function that registers one photo: one person, or everybody; or one person in all photos."""
    if together:
        from lvdreg.batch import Together
        from lvdreg.pipeline.photos import register_photos

        return Together(register_photos)
    from lvdreg.pipeline.photo import register_image, register_people

    return register_people if everyone else register_image
