"""``lvdreg export``."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.batch import check_out, export_all, wanted_formats
from lvdreg.cli.options import BoneNames, ExportKind, ExportPose
from lvdreg.cli.status import plain_errors

EPILOG = "Exit status: 0 all written, 1 something could not be read or written, 2 wrong usage."


def export(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="Result folders, or folders of them such as out.")
    ],
    to: Annotated[list[ExportKind], typer.Option(help="Format; give it again for more.")],
    pose: Annotated[ExportPose, typer.Option(help="That of the scan, a T-pose or an A-pose.")] = ExportPose.SCAN,
    bones: Annotated[BoneNames, typer.Option(help="Whose names the joints get.")] = BoneNames.SMPL,
    weights: Annotated[
        int, typer.Option(min=4, max=8, help="Joints that move a vertex at most; some engines read only 4.")
    ] = 8,
    morphs: Annotated[int, typer.Option(min=0, max=300, help="Shape parameters that become morphs.")] = 10,
    texture: Annotated[
        int, typer.Option(min=0, max=8192, help="Pixels of the side of the scan's texture; 0: no colours.")
    ] = 1024,
    scan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The scan that gives the colours, if it is elsewhere now.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; they go into the results if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are in the way.")] = False,
) -> None:
    """Write results for other programs: rigged models, meshes in another pose, animation, parameters."""
    with plain_errors():
        if out is not None:
            check_out(out)
        if scan is not None and len(results) > 1:
            raise UsageError(f"--scan: expected one result, whose scan it is; got {len(results)}")
        wanted = wanted_formats(
            to, pose=pose.value, bones=bones.value, weights=weights, morphs=morphs, texture=texture, scan=scan
        )
        export_all(results, wanted, out, force=force)
