"""Which scans can be augmented: those that ``lvdreg register`` has registered, found again by file or by name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lvdreg.augment.plan import Asked, Plan, Source
from lvdreg.augment.shards import body_hash
from lvdreg.base.errors import UsageError
from lvdreg.base.files import not_a_file, plain_size, read_json
from lvdreg.base.provenance import sha256_of
from lvdreg.base.text import one_line
from lvdreg.batch import expand_inputs, read_results
from lvdreg.body.catalogue import load_body


def plan_of(asked: Asked, scans: Sequence[str | Path], registrations: Path | None, body: str) -> Plan:
    """Plan a dataset.

    Args:
        asked: What the user wants.
        scans: Files, folders and patterns of registered scans; may be none.
        registrations: What ``lvdreg register --out`` left for them.
        body: Of synthetic people, where there are no scans.

    Raises:
        UsageError: there is nobody, the scans are not registered, or the body is a hand.
        BodyError: there is no body of that name.
    """
    if not scans and not asked.characters:
        raise UsageError("expected scans, or --characters with how many synthetic people, got neither")
    found: tuple[Source, ...] = ()
    left_out: dict[str, str] = {}
    if scans:
        if registrations is None:
            raise UsageError("--registrations: expected what lvdreg register --out left for the scans, got none")
        found, left_out, body = find_scans(scans, registrations)
    model = load_body(body)
    if model.data.is_hand:
        raise UsageError(f"--body: expected a whole body, got {body}: only people are augmented")
    return Plan(asked, body, body_hash(model), found, left_out)


def find_scans(inputs: Iterable[str | Path], registrations: Path) -> tuple[tuple[Source, ...], dict[str, str], str]:
    """Find the registrations of scans.

    Args:
        inputs: Files, folders and patterns of scans.
        registrations: What ``lvdreg register --out`` left. A scan is looked up by its absolute path in the summary
            there, else its result is taken to be in the folder of its stem.

    Returns:
        Scans in the order of their names, why others are left out, and the body that they are registered with.

    Raises:
        UsageError: none of them can be used, or they are registered with different bodies.
    """
    folders = {outcome.source: outcome.folder for outcome in read_results(registrations)}
    found: dict[str, Source] = {}
    left_out: dict[str, str] = {}
    bodies: dict[str, str] = {}
    for path in expand_inputs(inputs):
        folder = folders.get(str(path.absolute())) or path.stem
        reason, body = _judge(path, registrations / folder)
        if reason is None and folder in found:
            reason = f"{registrations.name}/{folder} belongs to another scan already"
        if reason is None:
            result = registrations / folder
            hashes = {"scan": sha256_of(path), "params": sha256_of(result / "params.npz")}
            found[folder], bodies[folder] = Source(folder, hashes, path.absolute(), result.absolute()), body
        else:
            left_out[one_line(path.name)] = reason
    _check(found, left_out, bodies, registrations)
    return tuple(found[name] for name in sorted(found)), left_out, next(iter(bodies.values()))


def _judge(scan: Path, result: Path) -> tuple[str | None, str]:
    """Return why a scan cannot be used, or None, and its body."""
    if not scan.is_file():
        return not_a_file(scan) or "no such file", ""
    try:
        report = read_json(result / "report.json")
        side, verdict, model = report["side"], report["verdict"], str(report["model"])
        plain_size(result / "params.npz")
    except OSError:
        return "not registered", ""
    except (ValueError, KeyError, TypeError):
        return "its report is damaged", ""
    if side is not None:
        return "a hand", ""
    return ("its registration failed" if verdict == "failed" else None), model.removesuffix("+d")


def _check(found: dict[str, Source], left_out: dict[str, str], bodies: dict[str, str], registrations: Path) -> None:
    if not found:
        first = "".join(f", {name}: {reason}" for name, reason in list(left_out.items())[:1])
        what = f"expected results of these scans in {registrations}, found none{first}"
        raise UsageError(f"--registrations: {what}; run lvdreg register --out {registrations} on them first")
    if len(set(bodies.values())) > 1:
        first_two = ", ".join(one_line(body)[:80] for body in sorted(set(bodies.values()))[:2])
        raise UsageError(f"--registrations: expected one body for all scans, got {first_two}; augment them separately")
