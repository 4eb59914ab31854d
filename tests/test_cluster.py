"""Batches on the machines of a cluster: the same results; what dies is tried again; one line for what is missing."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from test_workers import hungry_register, make, slow_register

from lvdreg.base.errors import LvdregError, UsageError
from lvdreg.batch import Limits, read_results, register_many
from lvdreg.batch.cluster import Cluster


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs Ray: pip install 'lvdreg\[cluster\]'"):
        Cluster(None, None, Limits())
    with pytest.raises(UsageError, match="Ray limits memory by itself"):
        Cluster(None, None, Limits(memory_mb=100))


@pytest.fixture(scope="module")
def machine() -> Any:
    """A cluster of this machine alone, with two cores."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    seen = {"PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parent.parent)))}
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": seen})
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_does_what_one_process_does(machine: Any, tmp_path: Path) -> None:
    sources = make(tmp_path / "in", ann="good", bob="once", cat="check", dan="die")
    engine = Cluster(None, None, Limits())
    outcomes = register_many(sources, tmp_path / "out", register=hungry_register, engine=engine)
    assert [outcome.verdict for outcome in outcomes] == ["good", "check", "check", None]
    assert "ended from outside" in outcomes[3].reason and outcomes[3].quarantined
    assert {outcome.source for outcome in read_results(tmp_path / "out")} == {str(source) for source in sources}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_limits_hold_and_errors_of_the_cluster_and_the_call_end_the_run(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = make(tmp_path / "in", ann="usage")
    with pytest.raises(UsageError, match="--up: expected an axis"):
        register_many(sources, tmp_path / "out", register=slow_register, engine=Cluster(None, 1, Limits()))
    (slow,) = make(tmp_path / "slow", ann="sleep")
    engine = Cluster(None, 1, Limits(seconds=1.0))
    (outcome,) = register_many([slow], tmp_path / "out", register=hungry_register, engine=engine)
    assert "more than 1 s" in outcome.reason and outcome.quarantined
    monkeypatch.setattr("lvdreg.batch.cluster.__version__", "99.0")
    with pytest.raises(LvdregError, match=r"the cluster has lvdreg .*, this machine 99.0: install the same one"):
        register_many(sources, tmp_path / "out", register=slow_register, engine=Cluster(None, 1, Limits()))
