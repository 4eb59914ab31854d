"""The fitted body against what a photo shows of a person: the outline of the mask, and keypoints.

Gauss-Newton on pose, shape, place and the size of the picture at once, as fit/scan.py does against scans: every step
pairs the outline of the mask with that of the body as the camera sees it now, both ways and only where both face alike,
and moves the body along the outlines' normals; kernel and reach shrink.

The mask is of clothes, hair and shoes. So each part of the body may lie inside of its outline by a clothing offset of
its own, which is found along with the body: both sides of a limb then say where its middle is, and only what little is
known of the offset says how thick it is. What the photo does not tell stays as the network has it: without evidence the
fit is at rest, and along the line of sight, where outlines pull by foreshortening alone, it is held the most.

Focal length and the picture's plane tell the distance of the plane z = 0 in units of the crop. So size and distance are
one unknown, the metres of that unit; what a body would gain in size by coming nearer is held by the prior of its depth.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.landmarks import landmarks_of, parts_of
from lvdreg.body.model import BodyModel
from lvdreg.fit.cloth import rest_log_volume, tightness
from lvdreg.fit.evidence import Evidence2D
from lvdreg.fit.kinematics import Kinematics, PosedPoints, State, upright_height
from lvdreg.fit.landmarks import kinematics_of
from lvdreg.fit.legs import StraightConfig, straight_legs
from lvdreg.fit.priors import pose_prior
from lvdreg.fit.scan import RefineConfig, prior_information
from lvdreg.fit.solver import Normal, gauss_newton, geman_mcclure
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.outline import (
    BodyOutline,
    MaskOutline,
    body_outline,
    edges_with_faces,
    mask_outline,
)
from lvdreg.image.crop import Crop
from lvdreg.photo.keypoints import KEYPOINTS


@dataclass(frozen=True)
class SilhouetteConfig:
    """The body against mask and keypoints; lengths in metres.

    Samples, noise and the offset of the ends were chosen on some of the 16 photos of characters, and on the photo
    standing2, whose figures LOG.md gives ("Silhouette against truth"): others will do worse. The offset of clothes was
    chosen on photos of seed 0 and checked on seed 21 (LOG.md, "Refinement from the side"). The rest was chosen by hand.
    """

    max_iterations: int = 22
    kernel: tuple[float, float] = (0.12, 0.05)
    """Scale of the robust kernel, first and last."""
    mask_points: int = 900
    """Points of the mask's outline that are used at most."""
    turn_reach: float = 0.06
    """Length that turns normals into coordinates when pairs are sought."""
    min_cosine: float = 0.3
    effective_samples: float = 200.0
    """How many independent observations an outline counts as, at most, against the network's fit."""
    noise: float = 0.03
    """One-sigma of the mask's outline."""
    clothing_offset: float = 0.03
    clothing_offset_ends: float = 0.025
    """How far a part's outline may lie outside of the body, all of it alike, one-sigma: clothes; hair and soles."""
    border: float = 0.02
    """Nearer than this to the end of the photo, in units of the crop, outlines are not the person's."""
    keypoint_sigma: float = 0.03
    """One-sigma of a keypoint's place on the body."""
    keypoint_kernel: tuple[float, float] = (0.3, 0.1)
    min_visibility: float = 0.3
    prior_pose_samples: float = 24.0
    prior_shape_samples: float = 40.0
    """As how many independent vertices the network's fit counts."""
    prior_depth_factor: float = 5.0
    """How much more it counts along the line of sight, where an outline pulls only by mistake."""
    expected_miss: float = 0.07
    """A fit that misses the keypoints by more than this, the median, counts as much less as it misses them, squared."""
    size_sigma: float = 0.02
    """How much the size in the crop, as a logarithm, may differ from the network's; the body's shape decides more."""
    volume_sigma: float = 0.02
    """How much the body's volume in the picture, as a logarithm, may exceed the network's."""
    loose: tuple[float, float] = (0.05, 0.08)
    """A part that lies this far inside of the mask to begin with, on average, wears cloth whose edges begin to say less
    of it, and say nothing."""
    height_sigma: float = 0.001
    """How exactly a height that was given is kept."""
    straight: StraightConfig = field(default_factory=StraightConfig)
    """Legs that look straight are."""
    damping: float = 1e-3
    tolerance: float = 0.002
    """Mean motion of the last step below which the body has come to rest."""


ENDS = ("head", "left_foot", "right_foot")
"""Parts that hair and soles make longer."""
CLOTHING_OFFSET_ROUNDS = 3
"""How often clothing offsets and the weights of pairs are found from each other in each step."""


def evidence_of(
    crop: Crop,
    metres_per_unit: float,
    keypoints: Float[np.ndarray, "K 3"] | None,
    config: SilhouetteConfig,
    *,
    with_mask: bool = True,
    height: float | None = None,
    sure: Collection[str] = (),
) -> Evidence2D:
    """Gather what the photo shows.

    Args:
        crop: The crop around the person.
        metres_per_unit: World metres by unit of the crop.
        keypoints: (33, 3) column, row and visibility in the photo; None without a pose.
        config: What of the outline counts.
        with_mask: Whether the crop's mask is the person's.
        height: Of the person standing upright, metres, where it is known.
        sure: Names of keypoints that a person put in their place.
    """
    placed = None
    if keypoints is not None:
        at = crop.to_unit(keypoints[:, :2].astype(np.float64)) * metres_per_unit
        placed = np.concatenate([at, keypoints[:, 2:]], 1)
    shown = Evidence2D(crop, metres_per_unit, None, placed, height, frozenset(sure))
    if not with_mask:
        return shown
    found = mask_outline(crop.mask[0].numpy())
    outline = MaskOutline(found.points * metres_per_unit, found.normals)
    own = np.flatnonzero(shown.within(outline.points, config.border))
    own = own[:: max(1, -(-len(own) // config.mask_points))]
    return replace(shown, outline=MaskOutline(outline.points[own], outline.normals[own]))


@dataclass(frozen=True)
class PhotoStart:
    """One photo's part in a refinement.

    Attributes:
        fit: Where to start: metres, x right, y up, z towards the viewer; the origin is seen in the middle of the crop.
        shown: What the photo shows.
        sigma: (V,) one-sigma of the start's vertices, metres; the surer, the longer it is held. None = all alike.
    """

    fit: Fit
    shown: Evidence2D
    sigma: Float[Tensor, " V"] | None


@dataclass(frozen=True)
class _Pairs:
    """Points of the body's outline and what they belong to.

    Attributes:
        edges: (N, 2) the vertices between which each lies.
        parts: (N,) which part of the body each belongs to.
        offsets: (N, 2) the body's point minus the mask's.
        points: (N, 2) the body's.
        normals: (N, 2) unit, outward.
        lengths: (N,) how much of the outline each stands for.
    """

    edges: IntArray
    parts: IntArray
    offsets: FloatArray
    points: FloatArray
    normals: FloatArray
    lengths: FloatArray

    @property
    def heights(self) -> FloatArray:
        """(N,) how far the body lies outside of the mask."""
        return np.asarray((self.offsets * self.normals).sum(1))


class PhotoRefiner:
    """One photo: everything that stays the same over the iterations, and how long the crop's unit is by now."""

    def __init__(
        self,
        body: BodyModel,
        start: State,
        shown: Evidence2D,
        sigma: Tensor | None,
        config: SilhouetteConfig,
        held: RefineConfig,
    ) -> None:
        self.data, self.first, self.config, self.start = body.data, shown, config, start
        self.parts, self.part = parts_of(body.data)
        self.clothing_offset_sigma = np.where(
            np.isin(self.parts, ENDS), config.clothing_offset_ends, config.clothing_offset
        )
        self.log_size, self.clothing_offset = 0.0, np.zeros(len(self.parts))
        self.resize(0.0)
        self.kernel, self.prior = Kinematics(body.data), pose_prior(body.data, held.prior)
        self.faces = np.asarray(body.data.faces, np.int64)
        self.edges, self.sides = edges_with_faces(self.faces)
        self.cells = shown.crop.mask.shape[-1]
        landmarks, self.rows = landmarks_of(body.data, KEYPOINTS)
        self.sure = np.isin(landmarks.names, list(shown.sure))
        self.landmarks, self.unsure = kinematics_of(body.data, landmarks), np.where(self.sure, 1.0, landmarks.unsure)
        if shown.keypoints is not None:
            targets, places = shown.keypoints[self.rows], self.landmarks.pose(start).vertices
            self.straight = straight_legs(landmarks.names, places, targets, config.min_visibility, config.straight)
        missed = self._missed(start)
        self.keypoint_kernel = (max(config.keypoint_kernel[0], 2 * missed), config.keypoint_kernel[1])
        self.base_weight = min(1.0, config.expected_miss / max(missed, 1e-9)) ** 2
        self.prior_matrix = self._prior_matrix(
            prior_information(body, start, sigma, held, (1.0, 1.0, config.prior_depth_factor))
        )
        self.weighed = self.base_weight * self.prior.equations(start).gradient
        self.log_volume = rest_log_volume(self.kernel, self.faces, start.betas)[0]
        self.tight = self._tightness(start)

    def equations(self, state: State, progress: float) -> Normal:
        """Return the normal equations of all that the photo says, in ``State.vector`` and the log of the crop's unit.

        Args:
            state: The body now.
            progress: From 0 to 1: kernels and reach shrink.
        """
        part, config = min(1.0, progress / 0.7), self.config
        # What is far is far in the picture: kernels grow with the unit.
        scale, reach = (self.grown * float(a * (b / a) ** part) for a, b in (config.kernel, self.keypoint_kernel))
        normal = self._held(state) + self._size_term() + self._volume_term(state)
        outline = self._outline_term(self.kernel.pose(state), scale)
        for term in (outline, self._keypoint_term(state, reach), self._height_term(state)):
            normal = normal if term is None else normal + term
        return normal

    @property
    def grown(self) -> float:
        """How much longer than at first the crop's unit is."""
        return float(np.exp(self.log_size))

    def resize(self, log_factor: float) -> None:
        """Make the crop's unit longer by a factor."""
        self.log_size += log_factor
        self.shown = self.first.resized(self.grown)
        if self.shown.outline is not None and len(self.shown.outline.points):
            outline = self.shown.outline
            self.tree = cKDTree(_lifted(outline.points, outline.normals, self.config.turn_reach))

    def distance(self, state: State) -> float:
        """Return how far the mask's outline lies from the body's on average, metres; 0 without a mask."""
        outline = self._body_outline(self.kernel.pose(state))
        if self.shown.outline is None or not len(outline.points) or not len(self.shown.outline.points):
            return 0.0
        return float(cKDTree(outline.points).query(self.shown.outline.points)[0].mean())

    def _missed(self, state: State) -> float:
        """Return by how much the keypoints that are seen are missed, metres, the median: 0 without any."""
        if self.shown.keypoints is None:
            return 0.0
        targets = self.shown.keypoints[self.rows]
        seen = targets[:, 2] >= self.config.min_visibility
        at = self.shown.camera.seen(self.landmarks.pose(state).vertices)
        apart = np.linalg.norm(at[:, :2] - targets[:, :2], axis=1)
        return float(np.median(apart[seen])) if seen.any() else 0.0

    def _body_outline(self, posed: PosedPoints) -> BodyOutline:
        """Return the body's outline where the photo shows it, metres."""
        unit = self.shown.metres_per_unit
        seen = self.shown.camera.seen(posed.vertices)
        found, _ = body_outline(seen / unit, self.faces, self.edges, self.sides, self.cells)
        keep = self.shown.within(found.points * unit, self.config.border)
        return BodyOutline(
            found.points[keep] * unit, found.normals[keep], found.edges[keep], found.lengths[keep] * unit
        )

    def _prior_matrix(self, information: FloatArray) -> FloatArray:
        """Return what the network's fit counts as (P, P), of what its vertices hold as if one of them had been seen."""
        shape = slice(self.start.pose.size, self.start.pose.size + len(self.start.betas))
        strength = np.full(len(information), self.base_weight * self.config.prior_pose_samples)
        strength[shape] = self.base_weight * self.config.prior_shape_samples
        return information * np.sqrt(np.outer(strength, strength))

    def _held(self, state: State) -> Normal:
        """Return the pull to the network's fit, and what speaks against unlikely bodies.

        The fit has weighed the priors against the network's vertices already: they only hold what differs from it.
        """
        offset = state.vector - self.start.vector
        pull = self.prior_matrix @ offset
        cost = 0.5 * float(offset @ pull) - float(offset @ self.weighed)
        return _with_size(Normal(self.prior_matrix, pull - self.weighed, cost) + self.prior.equations(state))

    def _size_term(self) -> Normal:
        """Return the pull to the size that the network's fit has in the crop, which is weak."""
        row = np.zeros((1, len(self.start.vector) + 1))
        row[0, -1] = 1.0
        return gauss_newton(row, np.array([self.log_size]), np.array([self.config.size_sigma**-2.0]))

    def _volume_term(self, state: State) -> Normal:
        """Return the pull back to the volume that the network's fit has in the picture: clothes only add to it."""
        log_volume, slope = rest_log_volume(self.kernel, self.faces, state.betas)
        row = np.zeros((1, len(state.vector) + 1))
        row[0, state.pose.size : state.pose.size + len(state.betas)] = slope
        row[0, -1] = -3.0
        grown = log_volume - self.log_volume - 3 * self.log_size
        return gauss_newton(row, np.array([grown]), np.array([(grown >= 0) * self.config.volume_sigma**-2.0]))

    def _tightness(self, start: State) -> FloatArray:
        """Return what the mask's edges say of each part inside of them (parts,), from 0 to 1."""
        mask, outline = self.shown.outline, self._body_outline(self.kernel.pose(start))
        if mask is None or not len(mask.points) or not len(outline.points):
            return np.ones(len(self.parts))
        return tightness(outline, self.part, mask, self.config.loose)

    def _outline_term(self, posed: PosedPoints, scale: float) -> Normal | None:
        """Return the normal equations of all pairs of outlines, both directions."""
        mask = self.shown.outline
        outline = self._body_outline(posed)
        if mask is None or not len(mask.points) or not len(outline.points):
            return None
        reach = self.config.turn_reach
        body = _lifted(outline.points, outline.normals, reach)
        to_mask = self.tree.query(body)[1]
        to_body = cKDTree(body).query(_lifted(mask.points, mask.normals, reach))[1]
        at = np.concatenate([np.arange(len(body)), to_body])
        other = np.concatenate([to_mask, np.arange(len(mask.points))])
        lengths = np.concatenate([outline.lengths / outline.lengths.sum(), np.full(len(to_body), 1 / len(to_body))])
        points = outline.points[at]
        edges = outline.edges[at]
        pairs = _Pairs(edges, self.part[edges[:, 0]], points - mask.points[other], points, outline.normals[at], lengths)
        alike = (outline.normals[at] * mask.normals[other]).sum(1) > self.config.min_cosine
        # A body that juts out of its clothes is wrong however loose they are.
        counts = alike * np.where(pairs.heights > 0, 1.0, self.tight[pairs.parts])
        return self._pull(posed.state, pairs, counts, scale)

    def _pull(self, state: State, pairs: _Pairs, counts: FloatArray, scale: float) -> Normal:
        """Return the normal equations of pairs that count so much: along normals, whatever each part's offset."""
        noise = max(self.config.noise * self.grown, 0.3 * scale)
        weight, known = self._with_clothing_offsets(
            pairs, counts * self.config.effective_samples * pairs.lengths / noise**2, scale
        )
        keep = np.flatnonzero(weight > 1e-6 * max(float(weight.max()), 1e-12))
        used, corner = np.unique(pairs.edges[keep], return_inverse=True)
        corners = corner.reshape(-1, 2)[:, [0, 1, 1]]
        edge_kinematics = Kinematics(self.data, used)
        bary = np.tile([0.5, 0.5, 0.0], (len(keep), 1))
        posed = edge_kinematics.pose(state)
        middles = posed.vertices[corners[:, :2]].mean(1)
        directions = self.shown.camera.slopes(middles, pairs.normals[keep])
        rows = edge_kinematics.directional_rows(posed, corners, bary, directions)
        rows = np.hstack([rows, _shrinking(middles, directions)[:, None]])
        parts = pairs.parts[keep]
        normal = gauss_newton(rows, pairs.heights[keep] + self.clothing_offset[parts], weight[keep])
        # Offsets follow the body, so what moves all of a part's outline alike costs only what is known of its offset.
        of_part = (np.arange(len(known))[:, None] == parts) * weight[keep]
        shared = (of_part @ rows) / np.sqrt(known)[:, None]
        shared[self.clothing_offset <= 0] = 0.0
        return Normal(normal.hessian - shared.T @ shared, normal.gradient, normal.cost)

    def _with_clothing_offsets(self, pairs: _Pairs, weight: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
        """Find each part's likeliest clothing offset, never below zero.

        Returns:
            What each pair counts (N,) once its part's offset is granted, and how much is known of each offset (parts,).
        """
        heights, inverse = pairs.heights, (self.clothing_offset_sigma * self.grown) ** -2.0
        beside = (pairs.offsets**2).sum(1) - heights**2
        for _ in range(CLOTHING_OFFSET_ROUNDS):
            squared = beside + (heights + self.clothing_offset[pairs.parts]) ** 2
            robust = weight * geman_mcclure(squared / scale**2)[1]
            known = np.bincount(pairs.parts, robust, len(inverse)) + inverse
            self.clothing_offset = np.maximum(-np.bincount(pairs.parts, robust * heights, len(inverse)) / known, 0.0)
        return robust, known

    def _keypoint_term(self, state: State, reach: float) -> Normal | None:
        """Return the normal equations of the keypoints that are seen, and of the legs that they show straight."""
        if self.shown.keypoints is None:
            return None
        targets = self.shown.keypoints[self.rows]
        posed = self.landmarks.pose(state)
        camera = self.shown.camera
        offsets = camera.seen(posed.vertices)[:, :2] - targets[:, :2]
        base_weight = np.where(targets[:, 2] >= self.config.min_visibility, targets[:, 2], 0.0)
        robust = geman_mcclure((offsets**2).sum(1) / (reach * self.unsure) ** 2)[1]
        robust = np.where(self.sure, 1.0, robust)
        weight = base_weight * robust / (self.config.keypoint_sigma * self.unsure * self.grown) ** 2
        points, jacobian = posed.vertices[:, None], self.landmarks.jacobian(posed)
        slopes = camera.slopes(np.repeat(points, 2, 1), np.broadcast_to(np.eye(2), (len(targets), 2, 2)))
        rows = np.concatenate([slopes @ jacobian, _shrinking(points, slopes)[..., None]], -1)
        rows = rows.reshape(2 * len(targets), -1)
        straight = self.straight.equations(posed.vertices, jacobian, self.config.straight)
        return gauss_newton(rows, offsets.reshape(-1), np.repeat(weight, 2)) + _with_size(straight)

    def _height_term(self, state: State) -> Normal | None:
        """Return the normal equations that keep a height that was given."""
        if self.shown.height is None:
            return None
        rest, slope = upright_height(self.kernel, state.betas)
        row = np.zeros((1, len(state.vector) + 1))
        row[0, state.pose.size : state.pose.size + len(state.betas)] = slope
        return gauss_newton(row, np.array([rest - self.shown.height]), np.array([self.config.height_sigma**-2.0]))


def keypoint_distances(body: BodyModel, fit: Fit, shown: Evidence2D, min_visibility: float) -> dict[str, float]:
    """Return how far each keypoint that is seen lies from its place on the body, metres in the plane of the photo."""
    if shown.keypoints is None:
        return {}
    landmarks, rows = landmarks_of(body.data, KEYPOINTS)
    at = shown.camera.seen(kinematics_of(body.data, landmarks).pose(State.from_params(fit.params)).vertices)
    targets = shown.keypoints[rows]
    apart = np.linalg.norm(at[:, :2] - targets[:, :2], axis=1)
    return {
        name: float(distance)
        for name, distance, visible in zip(landmarks.names, apart, targets[:, 2], strict=True)
        if visible >= min_visibility
    }


def _shrinking(points: Float64[np.ndarray, "*N 3"], slopes: Float64[np.ndarray, "*M 3"]) -> Float64[np.ndarray, "*M"]:
    """Return how what is seen of points moves, of slopes (..., 3), as the logarithm of the crop's unit grows.

    Errors count as parts of the picture, in which the body shrinks where the unit is longer: in metres they would be
    small as soon as everything is.
    """
    return np.asarray(-(points * slopes).sum(-1))


def _with_size(normal: Normal) -> Normal:
    """Return normal equations with one more unknown, last, of which they say nothing."""
    return Normal(np.pad(normal.hessian, (0, 1)), np.pad(normal.gradient, (0, 1)), normal.cost)


def _lifted(points: FloatArray, normals: FloatArray, reach: float) -> FloatArray:
    """Join places and, as lengths, the ways they face (N, 4): neighbours then agree in both."""
    return np.concatenate([points, reach * normals], 1)
