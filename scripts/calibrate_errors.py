"""Learn how wrong refined bodies are from synthetic scans, check it on others, and write the model that lvdreg ships.

    python scripts/calibrate_errors.py anny [--scans 60] [--seed 700 701] [--check-seed 0] [--out assets/priors]

Writes errors-BODY.json, which ``lvdreg.fit.errors`` reads, and its card. To be run again when weights or refinement
change. The scans are those of ``lvdreg evaluate synthetic`` and ``evaluate hands`` (complete and one-sided by turns),
with seeds that no benchmark uses, but for the check. What was registered is kept in --runs: run it again to go on.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import LvdregError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData
from lvdreg.evaluate.population import Population, hands, people
from lvdreg.fit.errors import PARTS, PREDICTORS, SHIPPED, ErrorEvidence, ErrorModel, VertexErrors
from lvdreg.geometry.mesh import mesh_normals

NAMES = ("sigma_network", "sigma_posterior", "moved", "gap")
LIMIT_POINTS = (1.0, 2.0)

CARD = """# errors-{body}: how wrong refined {kind} are

- From what is known at the end of a refinement
  ({predictors}) to one sigma of every vertex of the body under the
  clothes, the whole error, across the surface and along it; by the joint that a vertex moves with
  (`lvdreg/fit/errors.py`).
- Data: {scans} synthetic scans of seed {seed}, registered by lvdreg itself with the weights of its commit.
- Command: `{command}`.
- Score on {checked} scans of seed {check_seed}: {score}
- Licence: CC0, as the body it was made from.
- Limits: synthetic clothes and damages; people unlike those may be more wrong than it says.
"""


def populations(body: str) -> list[Population]:
    """Return who is scanned, by turns."""
    if load_body(body).data.is_hand:
        return [hands(body, "complete"), hands(body, "one-sided")]
    return [people(body)]


def samples(body: str, seed: int, count: int, runs: Path) -> Iterator[tuple[ErrorEvidence, VertexErrors]]:
    """Register scans; yield what is known of each body and what it misses, metres."""
    data, kinds = load_body(body).data, populations(body)
    runs.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = runs / f"{body}_{seed}_{i:04d}.npz"
        if not path.exists():
            register(data, kinds[i % len(kinds)], seed, i, path)
        found = np.load(path)
        if "moved" not in found:
            continue
        evidence = ErrorEvidence(*(found[name].astype(np.float64) for name in NAMES), float(found["residual"]))
        yield evidence, VertexErrors(*(found[f"error_{part}"].astype(np.float64) for part in PARTS))


def register(data: BodyData, population: Population, seed: int, index: int, path: Path) -> None:
    """Register one scan and keep what there is to learn from it; nothing where it cannot be registered."""
    subject = population.draw(seed, index)
    try:
        result = population.register(subject.scan, model=population.model)
    except LvdregError as error:
        print(f"{subject.scan.name}: {error}", flush=True)
        np.savez(path)
        return
    if result.evidence is None:
        np.savez(path)
        return
    missed = subject.metres * (result.body_vertices - subject.vertices)
    across = np.abs((missed * mesh_normals(subject.vertices, data.faces)).sum(1))
    whole = np.linalg.norm(missed, axis=1)
    along = np.sqrt(np.maximum(whole**2 - across**2, 0))
    kept = {name: getattr(result.evidence, name).astype(np.float32) for name in NAMES}
    errors = {f"error_{part}": x.astype(np.float32) for part, x in zip(PARTS, (whole, across, along), strict=True)}
    np.savez(path, **kept, **errors, residual=result.evidence.residual, verdict=result.verdict)
    print(f"{subject.scan.name}: {result.verdict}, {1000 * whole.mean():.1f} mm", flush=True)


def score(model: ErrorModel, checked: list[tuple[ErrorEvidence, VertexErrors]], data: BodyData) -> str:
    """Say how well sigma tells the errors of scans that the model was not learnt from."""
    words = []
    for part in PARTS:
        sigma = [getattr(model.at(evidence, data), part) for evidence, _ in checked]
        error = [getattr(errors, part) for _, errors in checked]
        flat, missed = np.concatenate(sigma), np.concatenate(error)
        inside = ", ".join(f"{(missed <= k * flat).mean():.1%} within {k:g} sigma" for k in LIMIT_POINTS)
        ranks = spearmanr(flat, missed).statistic
        means = spearmanr([s.mean() for s in sigma], [e.mean() for e in error]).statistic
        words.append(
            f"{part}: {inside}; Spearman {ranks:.2f} over vertices, {means:.2f} over scans; median sigma "
            f"{1000 * np.median(flat):.1f} mm, error {1000 * np.median(missed):.1f} mm"
        )
    return ".\n  ".join(words) + "."


def main() -> None:
    """Learn, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("body", choices=("anny", "anny-hand"))
    parser.add_argument("--scans", type=int, default=60)
    parser.add_argument("--seed", type=int, nargs="+", default=[700, 701], help="of scans to learn from")
    parser.add_argument("--check-seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/errors"))
    parser.add_argument("--out", type=Path, default=assets_dir() / "priors")
    args = parser.parse_args()
    data, path = load_body(args.body).data, args.out / Path(SHIPPED.format(args.body)).name
    if not path.exists():
        # Registering reads the model: one that says what the posterior says will do for a beginning.
        begun = ErrorModel(np.tile([float(name == "sigma_posterior") for name in PREDICTORS], (3, 1)),
                           {name: np.zeros(3) for name in data.joint_names})  # fmt: skip
        path.write_text(json.dumps(begun.to_dict()) + "\n")
    learnt = [each for seed in args.seed for each in samples(args.body, seed, args.scans, args.runs)]
    checked = list(samples(args.body, args.check_seed, args.scans, args.runs))
    model = ErrorModel.fit([evidence for evidence, _ in learnt], [errors for _, errors in learnt], data)
    said = score(model, checked, data)
    path.write_text(json.dumps(model.to_dict()) + "\n")
    seeds = " ".join(map(str, args.seed))
    command = f"python scripts/calibrate_errors.py {args.body} --scans {args.scans} --seed {seeds}"
    about = {
        "body": args.body, "kind": "hands" if data.is_hand else "bodies", "predictors": ", ".join(PREDICTORS),
        "scans": len(learnt), "seed": seeds.replace(" ", " and "), "checked": len(checked), "score": said,
        "command": f"{command} --check-seed {args.check_seed}", "check_seed": args.check_seed,
    }  # fmt: skip
    path.with_suffix(".md").write_text(CARD.format(**about))
    print(model.powers.round(2), said, sep="\n")


if __name__ == "__main__":
    main()
