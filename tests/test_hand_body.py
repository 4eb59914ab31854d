"""The free hand: as baked, against its source's own skinning, and its mirror image."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lvdreg.base.errors import BodyError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams, joint_regressor
from lvdreg.geometry.mesh import boundary_vertices, mesh_normals
from lvdreg.pipeline.assess_scan import mirrored

GOLDEN = Path(__file__).parent / "golden" / "anny_hand_posed.npz"
NAMES = ("wrist", *(f"{f}{k}" for f in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)))


@pytest.fixture(scope="module")
def hand() -> BodyModel:
    return load_body("anny-hand").double()


def test_it_has_manos_joints_in_manos_order(hand: BodyModel) -> None:
    assert hand.joint_names == NAMES and hand.data.is_hand and not load_body("anny").data.is_hand
    assert hand.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
    assert 800 <= hand.num_vertices <= 1600


def test_it_rests_in_its_palm_frame(hand: BodyModel) -> None:
    joints = dict(zip(NAMES, hand.data.J_template, strict=True))
    np.testing.assert_allclose(joints["wrist"], 0, atol=1e-5)
    np.testing.assert_allclose(joints["middle1"][[0, 2]], 0, atol=2e-5)
    assert joints["middle1"][1] > 0.05 and joints["index1"][0] > joints["ring1"][0] > joints["pinky1"][0]
    assert joints["thumb3"][2] > 0.01, "the thumb lies before the palm, which faces +Z"


def test_its_only_border_is_the_ring_at_the_wrist(hand: BodyModel) -> None:
    faces, points = hand.data.faces, hand.data.v_template.astype(np.float64)
    rim = boundary_vertices(faces, hand.num_vertices)
    assert rim.sum() == 20 and np.abs(points[rim][:, 1]).max() < 0.02
    assert (hand.data.weights[rim, 0] > 0.95).all()
    outward = np.einsum("vi,vi->v", mesh_normals(points, faces), points - points.mean(0))
    assert (outward > 0).mean() > 0.7


def test_it_moves_as_its_source_does(hand: BodyModel) -> None:
    golden = np.load(GOLDEN)
    params = BodyParams(
        torch.from_numpy(golden["betas"]),
        torch.from_numpy(golden["pose"]),
        torch.zeros(len(golden["pose"]), 3).double(),
    )
    found = hand(params).vertices.numpy()[:, golden["pick"]]
    error = np.linalg.norm(found - golden["vertices"], axis=-1)
    assert error.mean() < 1e-4 and error.max() < 1e-3


def test_joints_follow_the_regressor_under_any_shape(hand: BodyModel) -> None:
    regressor = torch.from_numpy(joint_regressor(hand.data))
    vertices, joints = hand.rest(
        2 * torch.randn(5, hand.num_betas, generator=torch.Generator().manual_seed(0)).double()
    )
    torch.testing.assert_close(regressor @ vertices, joints, atol=2e-5, rtol=0)


def test_the_left_hand_is_the_exact_mirror_image(hand: BodyModel) -> None:
    left, generator = load_body("anny-hand", side="left").double(), torch.Generator().manual_seed(1)
    params = BodyParams(
        torch.randn(hand.num_betas, generator=generator).double(),
        0.5 * torch.randn(16, 3, generator=generator).double(),
        torch.randn(3, generator=generator).double(),
        0.01 * torch.randn(hand.num_vertices, 3, generator=generator).double(),
    )
    polar = torch.tensor([-1.0, 1.0, 1.0]).double()
    one, other = hand(params), left(mirrored(params))
    torch.testing.assert_close(other.vertices, one.vertices * polar)
    torch.testing.assert_close(other.joints, one.joints * polar)
    inside_out = (
        mesh_normals(other.vertices.numpy(), left.data.faces)
        - mesh_normals(one.vertices.numpy(), hand.data.faces) * polar.numpy()
    )
    assert np.abs(inside_out).max() < 1e-9


@pytest.mark.parametrize(("name", "side"), [("anny", "left"), ("anny-hand", "up")])
def test_what_has_no_such_side_says_so(name: str, side: str) -> None:
    with pytest.raises(BodyError, match="expected side right, or left of a hand"):
        load_body(name, side=side)
