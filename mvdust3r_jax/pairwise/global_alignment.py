"""Global alignment of pairwise pointmaps (DUSt3R, arXiv 2312.14132, eq. 5): the paper's baseline.

Unknown are a depth map, pose and focal length of every view and a similarity of every pair; the sum
of distances between the views' world points and the moved pair predictions, weighted by
``log(confidence)``, is minimized by Adam in one ``lax.scan``. Pairs are summed in chunks whose
intermediate values are recomputed, so the memory is that of the predictions themselves.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mvdust3r_jax import pytrees
from mvdust3r_jax.cameras.from_pointmaps import centered_pixels, published_principal
from mvdust3r_jax.geometry.transforms import (
    invert_rigid,
    quat_from_rotation,
    rigid,
    rotation_from_quat,
    transform_points,
)
from mvdust3r_jax.pairwise.alignment_start import (
    MEAN_SCALE,
    Pairs,
    Start,
    normalized_pairs,
    spanning_tree_start,
)
from mvdust3r_jax.products import exact_products

# Adam's decay rates, and the cosine schedule's ends.
_B1, _B2, _PEAK_LR, _FINAL_LR = 0.9, 0.9, 0.01, 1e-6
# The logarithm of a focal length moves this many times slower than the other unknowns.
_FOCAL_SLOWNESS = 20.0
# Distances are rounded off below this (pairs have mean distance 1): at a perfect fit their gradient
# would be a unit vector of any direction, which Adam follows at full step size.
_ROUNDING = 1e-3
# Pairs whose residuals exist at once.
_PAIRS_AT_ONCE = 8


@pytrees.dataclass
class Aligned:
    """The aligned scene in the frame of view 0, at an arbitrary scale.

    confidence: each view's largest over its pairs. losses: value before each step.
    """

    points: Float[Array, "V H W 3"]
    confidence: Float[Array, "V H W"]
    ref_from_cam: Float[Array, "V 4 4"]
    focal_px: Float[Array, " V"]
    losses: Float[Array, " steps"]


@pytrees.dataclass
class _Unknowns:
    """What Adam moves. Focal lengths relative to the start; scales before their normalization."""

    log_depth: Float[Array, "V H W"]
    quat: Float[Array, "V 4"]
    translation: Float[Array, "V 3"]
    slow_log_focal: Float[Array, " V"]
    pair_log_scale: Float[Array, " P"]
    pair_quat: Float[Array, "P 4"]
    pair_translation: Float[Array, "P 3"]


def _unknowns(start: Start) -> _Unknowns:
    return _Unknowns(
        log_depth=jnp.log(start.depth),
        quat=quat_from_rotation(start.world_from_cam[:, :3, :3]),
        translation=start.world_from_cam[:, :3, 3],
        slow_log_focal=jnp.zeros_like(start.focal_px),
        pair_log_scale=jnp.log(start.pair_scale),
        pair_quat=quat_from_rotation(start.world_from_pair[:, :3, :3]),
        pair_translation=start.world_from_pair[:, :3, 3],
    )


def _focal_px(unknowns: _Unknowns, start: Start) -> Float[Array, " V"]:
    return start.focal_px * jnp.exp(unknowns.slow_log_focal / _FOCAL_SLOWNESS)


def _world_points(unknowns: _Unknowns, focal_px, principal_px) -> Float[Array, "V H W 3"]:
    """Depth maps lifted along their pixels' rays into the world."""
    pixels = centered_pixels(*unknowns.log_depth.shape[1:], principal_px)
    rays = pixels / focal_px[:, None, None, None]
    rays = jnp.concatenate([rays, jnp.ones_like(rays[..., :1])], axis=-1)
    points = rays * jnp.exp(unknowns.log_depth)[..., None]
    world_from_cam = rigid(rotation_from_quat(unknowns.quat), unknowns.translation)
    return transform_points(world_from_cam, points)


def _pair_transforms(unknowns: _Unknowns) -> tuple[Float[Array, " P"], Float[Array, "P 4 4"]]:
    """Pair-to-world similarities; the mean of the scales is pinned, or all would shrink to 0."""
    log_scale = unknowns.pair_log_scale - unknowns.pair_log_scale.mean()
    pose = rigid(rotation_from_quat(unknowns.pair_quat), unknowns.pair_translation)
    return MEAN_SCALE * jnp.exp(log_scale), pose


def _padded(pairs: Pairs) -> tuple[Pairs, int]:
    """Pairs in chunks ``[chunks, k, ...]``; fillers have confidence 1, so no weight."""
    count = pairs.first.shape[0]
    size = min(_PAIRS_AT_ONCE, count)
    missing = -count % size
    filled = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1), constant_values=1), pairs
    )
    filled = filled.replace(first=filled.first.at[count:].set(0))
    filled = filled.replace(second=filled.second.at[count:].set(0))
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), filled), missing


def _make_loss(pairs: Pairs, start: Start, principal_px):
    """``loss(unknowns)``: mean over pairs of the two views' mean weighted distances."""
    count = pairs.first.shape[0]
    chunks, missing = _padded(pairs)

    @jax.checkpoint
    def of_chunk(world, scale, pose, chunk: Pairs):
        wanted = world[jnp.stack([chunk.first, chunk.second], axis=1)]
        moved = transform_points(pose, scale[:, None, None, None, None] * chunk.points)
        weight = jnp.log(jnp.maximum(chunk.confidence, 1.0))
        squared = jnp.sum((wanted - moved) ** 2, axis=-1)
        distance = jnp.sqrt(squared + _ROUNDING**2) - _ROUNDING
        return jnp.sum(jnp.mean(weight * distance, axis=(-2, -1)))

    def loss(unknowns: _Unknowns) -> Float[Array, ""]:
        world = _world_points(unknowns, _focal_px(unknowns, start), principal_px)
        scale, pose = _pair_transforms(unknowns)
        scale = jnp.pad(scale, (0, missing)).reshape(chunks.first.shape)
        pose = jnp.pad(pose, ((0, missing), (0, 0), (0, 0))).reshape(*chunks.first.shape, 4, 4)

        def add(total, chunk):
            return total + of_chunk(world, *chunk), None

        return jax.lax.scan(add, jnp.zeros((), world.dtype), (scale, pose, chunks))[0] / count

    return loss


def _largest_confidence(pairs: Pairs, num_views: int) -> Float[Array, "V H W"]:
    shape = (num_views, *pairs.confidence.shape[2:])
    best = jnp.ones(shape, pairs.confidence.dtype).at[pairs.first].max(pairs.confidence[:, 0])
    return best.at[pairs.second].max(pairs.confidence[:, 1])


def _better(new: tuple[Array, _Unknowns], old: tuple[Array, _Unknowns]):
    """Of two (loss, unknowns) the one with the smaller loss."""
    return jax.tree.map(lambda a, b: jnp.where(new[0] < old[0], a, b), new, old)


@partial(jax.jit, static_argnames=("num_views", "steps"))
@exact_products
def global_alignment(
    pairs: Pairs,
    num_views: int,
    *,
    steps: int = 300,
    principal_px: Float[Array, "V 2"] | None = None,
) -> Aligned:
    """Cameras and one pointmap per view out of pairwise predictions of one scene.

    The graph must connect all views, and each view must come first in some pair
    (`alignment_start.scene_graph` gives such graphs). ``steps`` of Adam at 0.01, decaying by a
    cosine to 1e-6; the state of smallest loss is returned, which a perfect start may be already.
    principal_px: of every view, by default (W/2, H/2).
    """
    if principal_px is None:
        principal_px = published_principal(*pairs.confidence.shape[-2:])
    principal_px = jnp.broadcast_to(principal_px, (num_views, 2))
    pairs = normalized_pairs(pairs)
    start = spanning_tree_start(pairs, num_views, principal_px)
    loss = _make_loss(pairs, start, principal_px)
    schedule = optax.cosine_decay_schedule(_PEAK_LR, max(steps, 1), _FINAL_LR / _PEAK_LR)
    adam = optax.adam(schedule, b1=_B1, b2=_B2)

    def step(state, _):
        unknowns, moments, best = state
        value, gradient = jax.value_and_grad(loss)(unknowns)
        updates, moments = adam.update(gradient, moments)
        best = _better((value, unknowns), best)
        return (optax.apply_updates(unknowns, updates), moments, best), value

    unknowns = _unknowns(start)
    state = (unknowns, adam.init(unknowns), (jnp.asarray(jnp.inf, pairs.points.dtype), unknowns))
    (unknowns, _, best), losses = jax.lax.scan(step, state, None, length=steps)
    _, unknowns = _better((loss(unknowns), unknowns), best)
    focal_px = _focal_px(unknowns, start)
    world_from_cam = rigid(rotation_from_quat(unknowns.quat), unknowns.translation)
    ref_from_world = invert_rigid(world_from_cam[0])
    points = transform_points(ref_from_world, _world_points(unknowns, focal_px, principal_px))
    return Aligned(
        points=points,
        confidence=_largest_confidence(pairs, num_views),
        ref_from_cam=ref_from_world[None] @ world_from_cam,
        focal_px=focal_px,
        losses=losses,
    )
