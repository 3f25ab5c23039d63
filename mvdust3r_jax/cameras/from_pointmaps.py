"""Cameras out of pointmaps: one focal length per scene, one pose per view. Jitted and batched.

A pointmap says where the scene point behind each pixel lies in the reference camera's frame, so a
view is a dense set of 2D-3D correspondences. Pixels are integers (first center at (0, 0)); the
principal point is that of the images' intrinsics, where these are known, and else (W/2, H/2), where
the published recipe (and ``data.augment``) moves it by cropping. Lengths keep their units.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.cameras import pnp
from mvdust3r_jax.chunked import map_in_chunks
from mvdust3r_jax.geometry.align import median_shift_scale
from mvdust3r_jax.geometry.camera import pixel_grid
from mvdust3r_jax.geometry.pointmaps import take_view
from mvdust3r_jax.geometry.transforms import (
    invert_rigid,
    quat_from_rotation,
    rigid,
    rotation_from_quat,
    safe_norm,
)
from mvdust3r_jax.products import exact_products

# Weiszfeld's reweighting steps after the least-squares start, and the smallest residual in pixels.
_WEISZFELD_STEPS, _WEISZFELD_EPS = 10, 1e-8
# Correspondences drawn for scoring and first refinement; minimal samples; candidates kept of them.
_DRAWN, _TRIPLETS, _FINALISTS = 2048, 128, 4
# Refinement steps of a finalist on the drawn points, and of the winner on all pixels.
_DRAWN_STEPS, _FULL_STEPS = 10, 3
# The robust loss is this many standard deviations wide, within limits (the points' spread is 1).
# The deviation is read from this quantile of the distances (Rayleigh), low enough to be of inliers.
_WIDTH_SIGMAS, _WIDTH_QUANTILE = 4.0, 0.3
_MIN_WIDTH, _MAX_WIDTH = 1e-3, 1.0
# Fewer valid pixels than this do not determine a pose that could be checked.
_MIN_PIXELS = 6
# Cameras treated at once; more are taken in turn, which bounds the memory.
_CAMERAS_AT_ONCE = 24


@pytrees.dataclass
class PoseEstimate:
    """Camera poses in the reference frame.

    ref_from_cam: rotation and translation; all NaN where ``ok`` is false. inlier_share: share of
    the valid pixels that reproject within the threshold, 0 where nothing could be estimated.
    """

    ref_from_cam: Float[Array, "*batch V 4 4"]
    ok: Bool[Array, "*batch V"]
    inlier_share: Float[Array, "*batch V"]


def published_principal(height: int, width: int) -> Float[Array, "2"]:
    """The principal point (x, y) of images cropped by the published recipe: (W/2, H/2)."""
    return jnp.array([width / 2, height / 2], jnp.float32)


def centered_pixels(
    height: int, width: int, principal_px: Float[Array, "*batch 2"]
) -> Float[Array, "*batch H W 2"]:
    """Pixel coordinates measured from the principal point (x, y)."""
    grid = pixel_grid(height, width)
    grid = grid.reshape((1,) * (principal_px.ndim - 1) + grid.shape)
    return grid - principal_px[..., None, None, :]


def confident_mask(
    confidence: Float[Array, "*batch H W"], dropped_share: float = 0.03
) -> Bool[Array, "*batch H W"]:
    """Pixels whose confidence is not among the lowest ``dropped_share`` of their image."""
    flat = confidence.reshape(*confidence.shape[:-2], -1)
    index = int(dropped_share * flat.shape[-1])
    threshold = jnp.sort(flat, axis=-1)[..., index]
    return confidence >= threshold[..., None, None]


def _finite_rays(
    points: Float[Array, "*grid 3"], mask: Bool[Array, "*grid"]
) -> Float[Array, "*grid 2"]:
    """``(x/z, y/z)``, and 0 with gradient 0 for what is masked or not finite."""
    x_y, z = points[..., :2], points[..., 2:]
    defined = mask[..., None] & jnp.isfinite(x_y / z) & jnp.isfinite(1 / z)
    # Divided is only what is defined: else a gradient of 0 would be multiplied by infinity.
    return jnp.where(defined, x_y, 0.0) / jnp.where(defined, z, 1.0)


@jax.jit
def focal_from_pointmap(
    points: Float[Array, "*batch H W 3"],
    mask: Bool[Array, "*batch H W"],
    *,
    principal_px: Float[Array, "*batch 2"] | None = None,
) -> Float[Array, "*batch"]:
    """Focal length in pixels of the camera in whose own frame the pointmap is.

    Minimizes the sum of ``|pixel - f (x/z, y/z)|`` over the mask by Weiszfeld's algorithm (least
    squares, then ten reweightings). NaN for an empty mask. Only the reference view qualifies.
    """
    if points.shape[:-1] != mask.shape:
        raise ValueError(f"a mask {points.shape[:-1]} is expected for {points.shape}: {mask.shape}")
    if principal_px is None:
        principal_px = published_principal(*mask.shape[-2:])
    principal_px = jnp.broadcast_to(principal_px, (*mask.shape[:-2], 2))
    pixels = centered_pixels(*mask.shape[-2:], principal_px)
    rays = _finite_rays(points, mask)
    dots, squares = jnp.sum(rays * pixels, axis=-1), jnp.sum(rays * rays, axis=-1)

    def solve(weights):
        weights = jnp.where(mask, weights, 0.0)
        total = jnp.sum(weights * squares, axis=(-2, -1))
        return jnp.sum(weights * dots, axis=(-2, -1)) / jnp.where(total > 0, total, 1.0)

    def reweight(focal_px, _):
        residual = safe_norm(pixels - focal_px[..., None, None, None] * rays)
        return solve(1 / jnp.maximum(residual, _WEISZFELD_EPS)), None

    start = solve(jnp.ones_like(dots))
    found = jax.lax.scan(reweight, start, None, length=_WEISZFELD_STEPS)[0]
    return jnp.where(jnp.any(mask & (squares > 0), axis=(-2, -1)), found, jnp.nan)


def confident_focal(
    points: Float[Array, "*batch H W 3"],
    confidence: Float[Array, "*batch H W"],
    *,
    principal_px: Float[Array, "*batch 2"] | None = None,
) -> Float[Array, "*batch"]:
    """`focal_from_pointmap` over the confident pixels; those with confidence <= 0 do not count."""
    mask = confident_mask(confidence) & (confidence > 0)
    return focal_from_pointmap(points, mask, principal_px=principal_px)


def _drawn_indices(weights: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """Indices drawn in proportion to the weights, evenly along the array (systematic sampling)."""
    cumulative = jnp.cumsum(weights)
    wanted = (jnp.arange(count) + 0.5) / count * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, wanted), weights.shape[0] - 1)


def _robust_width(distances: Float[Array, " n"]) -> Float[Array, ""]:
    """Width of the robust loss from a low quantile of the squared distances (scaled points)."""
    low = jnp.sqrt(jnp.sort(distances)[int(_WIDTH_QUANTILE * distances.shape[0])])
    sigma = low / math.sqrt(-2 * math.log(1 - _WIDTH_QUANTILE))
    return jnp.clip(_WIDTH_SIGMAS * sigma, _MIN_WIDTH, _MAX_WIDTH)


def _refined(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    points: Float[Array, "n 3"],
    rays: Float[Array, "n 2"],
    drawn: Int[Array, " k"] | slice,
    weights: Float[Array, " n"],
    steps: int,
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """Refinement with a loss as wide as the drawn points' distances from their rays ask for."""
    distances = pnp.squared_distances(rotation, translation, points[drawn], rays[drawn])
    width = _robust_width(distances)
    return pnp.refine(rotation, translation, points, rays, weights, width, steps)


def _best_of_hypotheses(
    points: Float[Array, "n 3"],
    pixels: Float[Array, "n 2"],
    focal_px: Float[Array, ""],
    threshold_px: float,
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """Pose by P3P on fixed random triplets, the best few refined; correspondences weigh equally."""
    count, everything = points.shape[0], slice(None)
    rays, ones = pixels / focal_px, jnp.ones(count, points.dtype)
    triplets = np.random.default_rng(0).integers(count, size=(_TRIPLETS, 3))
    rotations, translations = jax.vmap(pnp.p3p)(rays[triplets], points[triplets])
    rotations, translations = rotations.reshape(-1, 3, 3), translations.reshape(-1, 3)

    def score(rotation, translation, step):
        errors = pnp.squared_errors(rotation, translation, points[::step], pixels[::step], focal_px)
        return pnp.log_score(errors, threshold_px)

    scores = jax.vmap(partial(score, step=2))(rotations, translations)
    _, best = jax.lax.top_k(-scores, _FINALISTS)

    def refined(rotation, translation):
        pose = _refined(rotation, translation, points, rays, everything, ones, _DRAWN_STEPS)
        return *pose, score(*pose, step=1)

    defined = jnp.isfinite(rotations).all((1, 2))
    rotations = jnp.where(defined[:, None, None], rotations, jnp.eye(3, dtype=points.dtype)[None])
    translations = jnp.where(defined[:, None], translations, 0.0)
    rotations, translations, scores = jax.vmap(refined)(rotations[best], translations[best])
    winner = jnp.argmin(scores)
    return rotations[winner], translations[winner]


def _pose_of_camera(
    points: Float[Array, "n 3"],
    pixels: Float[Array, "n 2"],
    weights: Float[Array, " n"],
    focal_px: Float[Array, ""],
    threshold_px: float,
) -> tuple[Float[Array, "3 3"], Float[Array, "3"], Float[Array, ""]]:
    """``cam_from_ref`` (rotation, translation) and inlier share of one camera's pixels."""
    drawn = _drawn_indices(weights, _DRAWN)
    center, spread = median_shift_scale(points[drawn], jnp.ones(_DRAWN, bool))
    scaled = (points - center[None]) / spread
    start = _best_of_hypotheses(scaled[drawn], pixels[drawn], focal_px, threshold_px)
    rotation, translation = _refined(*start, scaled, pixels / focal_px, drawn, weights, _FULL_STEPS)
    errors = pnp.squared_errors(rotation, translation, scaled, pixels, focal_px)
    valid = weights > 0
    share = jnp.sum(valid & (errors < threshold_px**2)) / jnp.maximum(jnp.sum(valid), 1)
    rotation = rotation_from_quat(quat_from_rotation(rotation))
    translation = spread * translation - rotation @ center
    possible = (spread > 0) & (jnp.sum(valid) >= _MIN_PIXELS)
    possible &= jnp.isfinite(rotation).all() & jnp.isfinite(translation).all()
    return rotation, translation, jnp.where(possible, share, 0.0).astype(points.dtype)


@partial(jax.jit, static_argnames=("threshold_px", "min_inlier_share"))
@exact_products
def poses_from_pointmaps(
    points: Float[Array, "*batch V H W 3"],
    confidence: Float[Array, "*batch V H W"],
    focal_px: Float[Array, "*batch"],
    *,
    principal_px: Float[Array, "*batch V 2"] | None = None,
    aspect: Float[Array, "*batch"] | None = None,
    threshold_px: float = 5.0,
    min_inlier_share: float = 0.05,
) -> PoseEstimate:
    """Pose of every view from its pixels and its pointmap (robust PnP, deterministic).

    Pixels weigh ``log(1 + confidence)``; those with confidence <= 0 or a non-finite point do not
    count. focal_px: along x; aspect: by it over the one along y, where pixels are not square.
    Hypotheses come from minimal samples, are scored by their reprojection errors and
    refined by Levenberg-Marquardt on all pixels. Views below ``min_inlier_share`` are not ``ok``,
    nor are those without an inlier.
    Not to be differentiated: poses are chosen among hypotheses, and gradients may be NaN.
    """
    if points.shape[:-1] != confidence.shape or focal_px.shape != confidence.shape[:-3]:
        raise ValueError(
            "points [..., V, H, W, 3], confidence [..., V, H, W] and focal_px [...] are expected: "
            f"received {points.shape}, {confidence.shape} and {focal_px.shape}"
        )
    height, width = confidence.shape[-2:]
    if principal_px is None:
        principal_px = published_principal(height, width)
    principal_px = jnp.broadcast_to(principal_px, (*confidence.shape[:-2], 2))
    usable = jnp.isfinite(points).all(axis=-1) & (confidence > 0)
    weights = jnp.where(usable, jnp.log1p(jnp.where(usable, confidence, 0.0)), 0.0)
    points = jnp.where(usable[..., None], points, 0.0)
    focals = jnp.broadcast_to(focal_px[..., None], confidence.shape[:-2])
    aspect = jnp.ones_like(focal_px) if aspect is None else aspect
    aspects = jnp.broadcast_to(aspect[..., None], focals.shape)

    def one(camera):
        points, weights, focal_px, principal_px, aspect = camera
        pixels = centered_pixels(height, width, principal_px).reshape(-1, 2)
        # As a camera with the focal length of x for both would have seen it.
        pixels = pixels * jnp.stack([jnp.ones_like(aspect), aspect])[None]
        return _pose_of_camera(points, pixels, weights, focal_px, threshold_px)

    cameras = (points.reshape(-1, height * width, 3), weights.reshape(-1, height * width))
    cameras += (focals.reshape(-1), principal_px.reshape(-1, 2), aspects.reshape(-1))
    rotation, translation, share = map_in_chunks(one, cameras, _CAMERAS_AT_ONCE)
    share = share.reshape(focals.shape)
    ok = (share >= min_inlier_share) & (share > 0)
    ref_from_cam = invert_rigid(rigid(rotation, translation)).reshape(*focals.shape, 4, 4)
    return PoseEstimate(jnp.where(ok[..., None, None], ref_from_cam, jnp.nan), ok, share)


def cameras_from_pointmaps(
    points: Float[Array, "B V H W 3"],
    confidence: Float[Array, "B V H W"],
    *,
    reference: Int[Array, " B"],
    principal_px: Float[Array, "B V 2"] | None = None,
) -> tuple[Float[Array, " B"], PoseEstimate]:
    """Focal length (pixels) by the reference view's pointmap, then every view's pose with it.

    reference: the view in whose frame a sample's points are, and from which alone a focal length
    can be read. All views of a sample are taken by one lens.
    """
    if principal_px is None:
        principal_px = published_principal(*confidence.shape[-2:])
    principal_px = jnp.broadcast_to(principal_px, (*confidence.shape[:-2], 2))
    own = (take_view(x, reference) for x in (points, confidence))
    focal_px = confident_focal(*own, principal_px=take_view(principal_px, reference))
    return focal_px, poses_from_pointmaps(points, confidence, focal_px, principal_px=principal_px)
