"""Several scans of one person: one shape, and what does not go with it."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from fake_registration import fake_registration
from scans import scan_of, vertices_of

import lvdreg
from lvdreg.base.errors import ScanError, UsageError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.boxes import Box, Size
from lvdreg.descent.scan import Views, yaws
from lvdreg.fit.known import Known
from lvdreg.fit.scan import RefineConfig, shape_information
from lvdreg.fit.vertices import Fit
from lvdreg.pipeline.scan import FittedScan
from lvdreg.result.scan import Registration
from lvdreg.scan.model import scan_from_arrays
from lvdreg.voxel.encoder import VoxelFeatures

QUICK = {"refine_iterations": 2}
RIGHT = [0.5, -1.0, 0.8, 0.3]
BETAS = {"ann": RIGHT, "bob": [0.6, -0.9, 0.7, 0.4], "giant": [9.0, -6.0, 6.0, 7.0]}


def fitted(body: BodyModel, name: str) -> FittedScan:
    """What somebody of the right shape was taken for: one of ``BETAS``."""
    params = replace(BodyParams.zeros(body), betas=body.v_template.new_tensor(BETAS[name]))
    target = scan_of(body, vertices_of(body, replace(params, betas=body.v_template.new_tensor(RIGHT))), 1500)
    views = Views(Box("+y", np.eye(4)), 1.0, yaws(1), VoxelFeatures(()), torch.zeros(9, 3), torch.zeros(1), True, {})
    vertices, sigma = torch.from_numpy(vertices_of(body, params)).float(), torch.full((body.num_vertices,), 0.03)
    fit, scan = Fit(params, 1.0, 1.0, True), scan_from_arrays(target.points, name=name)
    found = vertices, sigma, Known(), fit, fit, Size("m", 1.0, False), np.eye(4), views
    return FittedScan(scan, target.points, target, target, body, *found, {}, "anny")


@pytest.fixture
def together(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Registration | Exception]]:
    """Registers scans of people by their names; results have the betas that were found."""
    module = import_module("lvdreg.pipeline.scans")

    def fit_scan(source: str, *_: Any) -> FittedScan:
        if source not in BETAS:
            raise ScanError("no such file")
        return fitted(toy_body, source)

    def finish_scan(each: FittedScan, *_: Any) -> Registration:
        return fake_registration(name=each.scan.name, params={"betas": each.refined.params.betas.numpy()})

    monkeypatch.setattr(module, "fit_scan", fit_scan)
    monkeypatch.setattr(module, "finish_scan", finish_scan)
    return lambda *names: lvdreg.register_scans(names, settings=QUICK)


def test_all_get_one_shape_and_another_person_none_of_it(together: Any) -> None:
    first, lost, second, giant = together("ann", "nobody", "bob", "giant")
    assert isinstance(lost, ScanError)
    assert (first.shape_with, second.shape_with, giant.shape_with) == (("bob",), ("ann",), ())
    assert np.array_equal(first.params["betas"], second.params["betas"])
    assert giant.params["betas"].tolist() == BETAS["giant"]
    assert "not as tall as in the others" in giant.warnings[-1] and first.warnings == ("the feet are cut off",)


def test_a_scan_alone_is_said_to_be(together: Any) -> None:
    _, alone = together("nobody", "ann")
    assert alone.warnings[-1].startswith("no other scan could be registered") and not alone.shape_with


def test_too_few_and_too_many_are_refused() -> None:
    for count in (1, 101):
        with pytest.raises(UsageError, match="--same-person: expected 2 to 100 scans"):
            lvdreg.register_scans(["a.ply"] * count)


def test_a_scan_tells_less_of_what_it_does_not_show(toy_body: BodyModel) -> None:
    each = fitted(toy_body, "ann")
    left = each.own.points[:, 0] > -0.2
    half = replace(each.own, points=each.own.points[left], normals=each.own.normals[left])
    right_arm = toy_body.data.weights[:, toy_body.joint_names.index("right_elbow")] > 0.9
    moves = np.asarray(toy_body.data.shapedirs, np.float64)[right_arm].mean(0)
    spreads = []
    for target in (each.own, half):
        tells = shape_information(toy_body, each.refined, target, None, RefineConfig())
        assert tells == pytest.approx(tells.T, rel=1e-6, abs=1e-3) and np.linalg.eigvalsh(tells).min() > 0
        spreads.append(np.trace(moves @ np.linalg.inv(tells) @ moves.T))
    assert spreads[1] > 1.2 * spreads[0]
