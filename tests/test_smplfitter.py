"""The fit to vertices beside smplfitter (Sarandi 2024), another solver of the same task, on the free body."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lvdreg.body.model import BodyData, BodyModel
from lvdreg.fit.vertices import FitConfig, fit_body
from tests.scans import person, vertices_of

smplfitter = pytest.importorskip("smplfitter.np", reason="smplfitter is not installed: pip install 'lvdreg[dev]'")


@pytest.fixture
def other(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """smplfitter's body model, made of our arrays: it reads licensed files otherwise."""
    monkeypatch.setattr("smplfitter.common.initialize", lambda *_: arrays_of(body.data))
    return smplfitter.BodyModel("smplh")


def arrays_of(data: BodyData) -> SimpleNamespace:
    vertices, joints = len(data.v_template), len(data.parents)
    assert data.posedirs is None
    return SimpleNamespace(
        **{name: getattr(data, name) for name in ("v_template", "shapedirs", "weights", "faces", "joint_names")},
        J_template=data.J_template,
        J_shapedirs=data.J_shapedirs,
        posedirs=np.zeros((vertices, 3, 9 * (joints - 1)), np.float32),
        # Joints are given to the fit; none are looked for among vertices.
        J_regressor_post_lbs=np.zeros((joints, vertices), np.float32),
        kid_shapedir=np.zeros((vertices, 3), np.float32),
        kid_J_shapedir=np.zeros((joints, 3), np.float32),
        _has_kid_template=False,
        kintree_parents=[int(parent) for parent in data.parents],
        num_joints=joints,
        num_vertices=vertices,
        vertex_subset=np.arange(vertices),
    )


def test_both_pose_the_free_body_alike(body: BodyModel, other: Any) -> None:
    params = person(body, 0)
    posed = other(*(x.numpy()[None] for x in (params.pose, params.betas, params.transl)))
    np.testing.assert_allclose(posed["vertices"][0], vertices_of(body, params), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_our_fit_is_nearer_to_the_body_that_noisy_vertices_came_from(body: BodyModel, other: Any, seed: int) -> None:
    """It was by a factor of four to five; smplfitter is given the joints as well, and four rounds."""
    params, rng = person(body, seed), np.random.default_rng(seed)
    truth, joints = vertices_of(body, params), body(params).joints.numpy()
    noisy = (truth + 0.01 * rng.normal(size=truth.shape)).astype(np.float32)
    wanted = {"num_iter": 4, "beta_regularizer": 0.1, "requested_keys": ["pose_rotvecs", "vertices"]}
    theirs = smplfitter.BodyFitter(other).fit(noisy[None], joints[None], **wanted)["vertices"][0]
    ours = vertices_of(body, fit_body(body, torch.from_numpy(noisy), None, FitConfig()).params)
    apart = [float(np.linalg.norm(found - truth, axis=1).mean()) for found in (ours, theirs)]
    assert apart[0] < 0.6 * apart[1]
