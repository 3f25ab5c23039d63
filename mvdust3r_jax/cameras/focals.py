"""A focal length for each view, where its pointmap says that it has one of its own.

Poses come with one focal length for all views (`from_pointmaps`). A photograph taken at another
zoom then has a pose that stands too near or too far, and points that miss their rays. Here pose and
focal length of every view are refined together, on the distances of its points from its rays; the
own focal length counts where these become much smaller and it differs from the common one by more
than the points' noise would make it.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from mvdust3r_jax.cameras import pnp
from mvdust3r_jax.cameras.from_pointmaps import centered_pixels
from mvdust3r_jax.chunked import map_in_chunks
from mvdust3r_jax.geometry.transforms import invert_rigid, rigid, rotation_from_axis_angle
from mvdust3r_jax.products import exact_products

# Points drawn of a view, and refinement steps on them.
_DRAWN, _STEPS = 2048, 30
# An own focal length must differ by this factor, and leave at most this share of the distances.
# Rooms (`benchmarks.focals`): photographs of the common lens pass for others in at most 5 of 100.
MIN_FACTOR, MAX_LEFT = 1.15, 0.75
# Beyond this factor no photograph of one scene differs; it is the points that do not fit.
_LARGEST_FACTOR = 8.0
# Views are refined so many at once.
_VIEWS_AT_ONCE = 8
_DAMPING, _DOWN, _UP = 1e-3, 0.3, 8.0
# The robust loss is as wide as this quantile of the first distances.
_WIDTH_QUANTILE = 0.7


@struct.dataclass
class OwnFocals:
    """Of each view: focal length over the common one, the pose with it, and what they gain.

    left: the median distance of points from their rays, as a share of that with the common focal
    length. usable: whether there is an own focal length. own: whether it is to be believed.
    """

    factor: Float[Array, " V"]
    ref_from_cam: Float[Array, "V 4 4"]
    left: Float[Array, " V"]
    usable: Bool[Array, " V"]
    own: Bool[Array, " V"]


def _normal_equations(rotation, translation, points, rays, weights):
    """`pnp`'s six unknowns, and as the seventh the logarithm of the rays' length."""
    seen = points @ rotation.T + translation[None]
    x, y, z = seen.T
    u, v = rays.T
    one, zero = jnp.ones_like(z), jnp.zeros_like(z)
    row_x = jnp.stack([-u * y, z + u * x, -y, one, zero, -u, -u * z])
    row_y = jnp.stack([-z - v * y, v * x, x, zero, one, -v, -v * z])
    weighted_x, weighted_y = row_x * weights[None], row_y * weights[None]
    matrix = weighted_x @ row_x.T + weighted_y @ row_y.T
    return matrix, weighted_x @ (x - u * z) + weighted_y @ (y - v * z)


def _refined(rotation, translation, points, rays, weights, width):
    """Levenberg-Marquardt with Geman and McClure's loss; also the factor of the rays."""

    def evaluate(rotation, translation, log_stretch):
        stretched = rays * jnp.exp(log_stretch)
        squared = pnp.squared_distances(rotation, translation, points, stretched)
        ratio = jnp.where(jnp.isfinite(squared), squared / width**2, jnp.inf)
        loss = jnp.where(jnp.isinf(ratio), 1.0, ratio / (1 + ratio))
        again = jnp.where(jnp.isinf(ratio), 0.0, weights / (1 + ratio) ** 2)
        return jnp.sum(weights * loss), again

    def step(state, _):
        rotation, translation, log_stretch, damping, cost, again = state
        stretched = rays * jnp.exp(log_stretch)
        matrix, gradient = _normal_equations(rotation, translation, points, stretched, again)
        damped = matrix + jnp.diag(damping * jnp.diag(matrix) + 1e-12)
        delta = -pnp.solve_positive(damped, gradient)
        turn = rotation_from_axis_angle(delta[:3])
        moved = (turn @ rotation, turn @ translation + delta[3:6], log_stretch + delta[6])
        new_cost, new_again = evaluate(*moved)
        kept = jax.tree.map(
            partial(jnp.where, new_cost < cost),
            (*moved, damping * _DOWN, new_cost, new_again),
            (rotation, translation, log_stretch, damping * _UP, cost, again),
        )
        return kept, None

    start = (rotation, translation, jnp.zeros((), points.dtype))
    first = (*start, jnp.asarray(_DAMPING, points.dtype), *evaluate(*start))
    (rotation, translation, log_stretch, *_), _ = jax.lax.scan(step, first, None, length=_STEPS)
    return rotation, translation, log_stretch


def _drawn(weights: Float[Array, " n"]) -> Array:
    cumulative = jnp.cumsum(weights)
    wanted = (jnp.arange(_DRAWN) + 0.5) / _DRAWN * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, wanted), weights.shape[0] - 1)


def _one_view(points, rays, weights, ref_from_cam):
    chosen = _drawn(weights)
    points, rays = points[chosen], rays[chosen]
    # Only for numbers near 1: outliers among the points do no harm here.
    center = jnp.mean(points, axis=0)
    spread = jnp.maximum(jnp.mean(jnp.abs(points - center[None])), 1e-12)
    cam_from_ref = invert_rigid(ref_from_cam)
    rotation, translation = cam_from_ref[:3, :3], cam_from_ref[:3, 3]
    scaled = (points - center[None]) / spread
    start = (rotation, (translation + rotation @ center) / spread)
    before = jnp.sort(pnp.squared_distances(*start, scaled, rays))
    width = jnp.maximum(jnp.sqrt(before[int(_WIDTH_QUANTILE * _DRAWN)]), 1e-4)
    rotation, shift, log_stretch = _refined(
        *start, scaled, rays, jnp.ones(_DRAWN, points.dtype), width
    )
    after = jnp.sort(pnp.squared_distances(rotation, shift, scaled, rays * jnp.exp(log_stretch)))
    left = jnp.sqrt(after[_DRAWN // 2] / jnp.maximum(before[_DRAWN // 2], 1e-12))
    pose = invert_rigid(rigid(rotation, spread * shift - rotation @ center))
    return jnp.exp(-log_stretch), pose, left


@jax.jit
@exact_products
def own_focals(
    points: Float[Array, "V H W 3"],
    confidence: Float[Array, "V H W"],
    focal_px: Float[Array, ""],
    ref_from_cam: Float[Array, "V 4 4"],
    principal_px: Float[Array, "V 2"],
) -> OwnFocals:
    """Focal lengths beside the common one, from poses that were found with it.

    Pixels weigh ``log(1 + confidence)``; those with confidence <= 0 or no finite point are passed
    over.
    """
    height, width = confidence.shape[-2:]
    usable = jnp.isfinite(points).all(axis=-1) & (confidence > 0)
    weights = jnp.where(usable, jnp.log1p(jnp.where(usable, confidence, 0.0)), 0.0)
    points = jnp.where(usable[..., None], points, 0.0)

    def one(view):
        points, weights, pose, principal_px = view
        rays = centered_pixels(height, width, principal_px).reshape(-1, 2) / focal_px
        return _one_view(points, rays, weights, pose)

    flat = (points.reshape(len(points), -1, 3), weights.reshape(len(points), -1))
    factor, poses, left = map_in_chunks(one, (*flat, ref_from_cam, principal_px), _VIEWS_AT_ONCE)
    differs = jnp.abs(jnp.log(factor))
    usable = (differs < jnp.log(_LARGEST_FACTOR)) & jnp.isfinite(poses).all(axis=(-2, -1))
    own = usable & (differs > jnp.log(MIN_FACTOR)) & (left < MAX_LEFT)
    return OwnFocals(factor, poses, left, usable, own)
