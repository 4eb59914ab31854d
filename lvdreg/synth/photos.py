"""Training samples for photos: people cut out of pictures as a person would have taken them, and the bodies beneath."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.base import devices
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.image.inputs import CROP_FILL
from lvdreg.synth.camera import degrade
from lvdreg.synth.camera.light import draw_lights
from lvdreg.synth.camera.render import photograph
from lvdreg.synth.camera.view import Cameras, look_at
from lvdreg.synth.characters import Characters
from lvdreg.synth.draw import Draw
from lvdreg.synth.people.photo_poses import PhotoPoseSampler
from lvdreg.synth.scans import draw_betas
from lvdreg.synth.subjects import Subjects

PHOTOS_AT_ONCE = 8
"""So many pictures are worked on at once on a CPU."""
FACED = 0.55
"""Share of photos that are taken from the front, more or less; the others from any side."""
NEAREST_CAMERA, FARTHEST_CAMERA = 1.5, 12.0
"""Distances of cameras, metres: even in their logarithm."""
TELEPHOTO = 0.12
"""Share that is taken from so far away that there is no perspective."""
CAMERA_HEIGHTS: dict[str, tuple[float, float, float]] = {
    "chest to eyes": (0.72, 1.1, 1.75),
    "hip": (0.10, 0.8, 1.1),
    "near the ground": (0.08, 0.1, 0.8),
    "overhead": (0.10, 1.75, 3.2),
}
"""Share, lowest and highest: how high over the ground cameras are held, metres."""
STEEPEST = 0.9
"""No camera looks up or down more steeply, radians."""


@dataclass(frozen=True)
class Photos:
    """A batch of crops around people, in the unit frame of the crop: x right, y up, z towards the viewer, [-1, 1]^2.

    Attributes:
        image: sRGB, surroundings included, 0 to 1.
        mask: The person as a segmenter finds them, 0 to 1.
        vertices: The naked body's vertices; depth has the scale of the other axes and is zero at the pelvis.
        joints: Its joints.
        metres_per_unit: Size of the unit, at the middle of the person.
        params: Shape and pose of the body, the root's rotation into the axes of the unit frame; None: unknown.
    """

    image: Float[Tensor, "B 3 S S"]
    mask: Float[Tensor, "B 1 S S"]
    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]
    metres_per_unit: Float[Tensor, " B"]
    params: BodyParams | None = None


class PhotoStream:
    """Draws photos of synthetic people; the same generator state gives the same photos."""

    def __init__(self, body: BodyModel, size: int = 256, views: int = 2) -> None:
        """Prepare people.

        Args:
            body: Whom they show.
            size: Side of the photos, pixels; a multiple of 8.
            views: So many photos are taken of each person: people cost more than photos.
        """
        self.body, self.size, self.views = body, size, views
        self.people, self.poses = Characters(body), PhotoPoseSampler(body)

    @torch.no_grad()
    def params(self, batch: int, generator: torch.Generator) -> BodyParams:
        """Draw shapes over the whole population, and poses by the shares of ``PHOTO_POSES``."""
        betas = draw_betas(self.body, self.people.stream.people, batch, generator)
        pose = self.poses.sample(betas, generator)
        return BodyParams(betas, pose, torch.zeros_like(pose[:, 0]))

    @torch.no_grad()
    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Draw people and take photos of them."""
        people = self.people.dress(self.params(-(-batch // self.views), generator), generator)
        # People cost less the more of them are drawn at once; pictures of more than a few leave a processor's cache.
        at_once = batch if devices.in_bulk(generator.device) else PHOTOS_AT_ONCE
        numbers = torch.arange(batch, device=generator.device).split(max(1, at_once))
        return joined([self._taken(people.chosen(rows // self.views), generator) for rows in numbers])

    def _taken(self, subjects: Subjects, generator: torch.Generator) -> Photos:
        """Take a photo of everybody."""
        draw = Draw(len(subjects.vertices), generator)
        cameras, borders, yaw = take_aim(subjects, self.size, draw)
        # One look a pixel: half as dear as four, and the blur of cameras hides what is jagged.
        image, alpha = photograph(subjects, cameras, draw_lights(draw, yaw), self.size)
        naked = (subjects.vertices, subjects.joints, subjects.params)
        return degraded_photos(Shots(image, alpha, *naked, cameras, borders), draw)


def joined(parts: Sequence[Photos]) -> Photos:
    """Return several batches as one."""
    if len(parts) == 1:
        return parts[0]
    known = [part.params for part in parts if part.params is not None]

    def of(rows: Sequence[object], name: str) -> Tensor:
        return torch.cat([getattr(row, name) for row in rows])

    params = BodyParams(*(of(known, name) for name in ("betas", "pose", "transl"))) if known else None
    image, mask, vertices = (of(parts, name) for name in ("image", "mask", "vertices"))
    return Photos(image, mask, vertices, of(parts, "joints"), of(parts, "metres_per_unit"), params)


def take_aim(subjects: Subjects, size: int, draw: Draw) -> tuple[Cameras, Float[Tensor, "B 4"], Float[Tensor, " B"]]:
    """Place cameras as people hold them, on any side, and choose how much of the person the picture shows.

    Returns:
        Cameras whose picture is the crop around what is visible; where in it the photo ends: left, top, right and
        bottom, pixels of the crop, infinite where the person ends first; and the cameras' yaw.
    """
    points = subjects.outer.vertices
    cameras, yaw = stand(points, size, draw)
    seen = cameras.project(points)[..., :2]
    borders = _borders(seen.amin(1), seen.amax(1), draw)
    visible = torch.maximum(borders[:, :2], seen.amin(1)), torch.minimum(borders[:, 2:], seen.amax(1))
    fill = CROP_FILL * torch.exp(0.07 * draw.normal())
    zoom = size * fill / (visible[1] - visible[0]).amax(1, keepdim=True)
    shift = size * (0.5 + 0.03 * draw.normal((2,))) - zoom * (visible[0] + visible[1]) / 2
    cameras = replace(cameras, scale=cameras.scale * zoom[:, 0], centre=cameras.centre * zoom + shift)
    return cameras, borders * zoom + shift.repeat(1, 2), yaw


def stand(points: Float[Tensor, "B N 3"], size: int, draw: Draw) -> tuple[Cameras, Float[Tensor, " B"]]:
    """Place cameras where people hold them: from 1.5 m away to far off, mostly at the height of chest or eyes.

    A camera that is near and high looks down, one near the ground up; and it does not always look at the middle of
    the person, whom perspective then shears.

    Args:
        points: Of the people, world, metres.
        size: Width and height of the pictures, pixels.
        draw: One row for each.

    Returns:
        Cameras, and the yaw (``look_at``) at which they stand.
    """
    low, high = points.amin(1), points.amax(1)
    middle = (low + high) / 2
    yaw = torch.where(draw.chance(FACED), 0.6 * draw.normal(), draw.uniform(-math.pi, math.pi))[:, 0]
    distance = (NEAREST_CAMERA * (FARTHEST_CAMERA / NEAREST_CAMERA) ** draw.uniform())[:, 0]
    where = draw.choice(tuple(share for share, _, _ in CAMERA_HEIGHTS.values()))
    lowest, highest = torch.tensor([row[1:] for row in CAMERA_HEIGHTS.values()], device=draw.device)[where].unbind(1)
    height = low[:, 1] + lowest + (highest - lowest) * draw.uniform()[:, 0] - middle[:, 1]
    pitch = torch.atan2(height, distance).clamp(-STEEPEST, STEEPEST)
    perspective = torch.where(draw.chance(TELEPHOTO)[:, 0], 0.0, 1 / distance)
    # Far cameras do not shear: they look at the person or do not see them.
    aside = 0.12 * draw.normal((2,)) * (1.5 * perspective)[:, None]
    level = draw.uniform()[:, 0] * draw.chance(0.5)[:, 0] * (1.5 * perspective).clamp(max=1)
    roll, one = 0.05 * draw.normal()[:, 0], torch.ones_like(yaw)
    straight = look_at(middle, yaw, pitch, roll, one, perspective, size)
    turned = look_at(middle, yaw + aside[:, 0], pitch * (1 - level) + aside[:, 1], roll, one, perspective, size)
    return aimed_aside(turned, straight, middle), yaw


def aimed_aside(turned: Cameras, straight: Cameras, anchor: Float[Tensor, "B 3"]) -> Cameras:
    """Return cameras that stand where ``straight`` ones do, and look where ``turned`` ones look.

    Args:
        turned: Their rotations count.
        straight: Cameras that look at the anchors from where they stand; those without perspective are kept.
        anchor: World, metres.
    """
    distance = 1 / straight.perspective.clamp(min=1e-9)
    place = anchor - distance[:, None] * straight.rotation[:, 2]
    depth = ((anchor - place) * turned.rotation[:, 2]).sum(-1)
    away = torch.stack([torch.zeros_like(depth), torch.zeros_like(depth), depth], -1)
    translation = -(turned.rotation @ place[..., None])[..., 0] - away
    near = straight.perspective > 0
    return Cameras(
        torch.where(near[:, None, None], turned.rotation, straight.rotation),
        torch.where(near[:, None], translation, straight.translation),
        straight.scale,
        torch.where(near, 1 / depth, straight.perspective),
        straight.centre,
    )


def _borders(low: Float[Tensor, "B 2"], high: Float[Tensor, "B 2"], draw: Draw) -> Float[Tensor, "B 4"]:
    """Let some photos end within the person: mostly at the knees, the hips or the chest (EFT, extreme crops)."""
    extent = high - low
    left, top = low - torch.inf, low - torch.inf
    right, bottom = high + torch.inf, high + torch.inf
    kind = draw.choice((0.78, 0.16, 0.02, 0.02, 0.02))[:, None]
    share = draw.uniform(0.0, 0.3)
    bottom_at = low[:, 1:] + extent[:, 1:] * draw.uniform(0.35, 0.95)
    top_at = low[:, 1:] + extent[:, 1:] * share
    left_at, right_at = low[:, :1] + extent[:, :1] * share, high[:, :1] - extent[:, :1] * share
    return torch.cat(
        [
            torch.where(kind == 3, left_at, left[:, :1]),
            torch.where(kind == 2, top_at, top[:, 1:]),
            torch.where(kind == 4, right_at, right[:, :1]),
            torch.where(kind == 1, bottom_at, bottom[:, 1:]),
        ],
        1,
    )


@dataclass(frozen=True)
class Shots:
    """Pictures of people on black, sharp and complete, and all that is known of them.

    Attributes:
        image: sRGB, 0 to 1, times ``alpha``.
        alpha: How much each pixel is the person.
        vertices: The naked body's vertices, world frame, metres.
        joints: Its joints.
        params: Its shape and pose.
        cameras: That took the pictures.
        borders: Where the photos end: left, top, right, bottom, pixels; infinite where they end nowhere.
    """

    image: Float[Tensor, "B S S 3"]
    alpha: Float[Tensor, "B S S"]
    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]
    params: BodyParams
    cameras: Cameras
    borders: Float[Tensor, "B 4"]


def degraded_photos(shots: Shots, draw: Draw) -> Photos:
    """Set people before surroundings, lose what cameras, files and segmenters lose, and say where the bodies are.

    Args:
        shots: Pictures of people.
        draw: Of the batch.
    """
    cameras, size = shots.cameras, shots.image.shape[1]
    shown = 1 - degrade.hide(size, draw, 0.08)
    alpha = shots.alpha[:, None] * shown
    scene = shots.image.permute(0, 3, 1, 2) * shown + (1 - alpha) * degrade.backgrounds(size, draw)
    at = torch.arange(size, device=draw.device) + 0.5
    left, top, right, bottom = shots.borders[..., None].unbind(1)
    inside = ((at > left) & (at < right))[:, None, None, :] & ((at > top) & (at < bottom))[:, None, :, None]
    pelvis = cameras.view(shots.joints[:, :1])[:, 0, 2]
    return Photos(
        degrade.degraded(scene, draw) * inside,
        degrade.segmented(alpha, draw) * inside,
        cameras.to_unit(shots.vertices, size, pelvis),
        cameras.to_unit(shots.joints, size, pelvis),
        size / 2 / cameras.scale,
        _seen_from(cameras, shots.params),
    )


def _seen_from(cameras: Cameras, params: BodyParams) -> BodyParams:
    """Turn bodies into the axes of the crop: right, up, towards the viewer."""
    R_unit_world = cameras.rotation * cameras.rotation.new_tensor([1.0, -1.0, -1.0])[:, None]
    root = rotmat_to_rotvec(R_unit_world @ rotvec_to_rotmat(params.pose[:, 0]))
    return replace(
        params, pose=torch.cat([root[:, None], params.pose[:, 1:]], 1), transl=torch.zeros_like(params.transl)
    )
