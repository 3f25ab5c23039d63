"""Pairs of views, and a first common frame for them: the start of global alignment.

Every pair (i, j) of the graph has two pointmaps in the frame of view i's camera, each pair at a
scale of its own. A spanning tree of confident pairs chains them into one frame (DUSt3R, Wang et
al., arXiv 2312.14132, section 3.4). One scene; all of it is traceable, the tree included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.cameras.from_pointmaps import (
    confident_focal,
    poses_from_pointmaps,
)
from mvdust3r_jax.geometry.align import similarity
from mvdust3r_jax.geometry.transforms import invert_rigid, rigid, safe_norm, transform_points
from mvdust3r_jax.products import exact_products

GRAPHS = ("complete", "window", "reference")
# The world's scale is fixed by this geometric mean of the pairs' scales.
MEAN_SCALE = 0.5
# Points of the start nearer to their camera than this share of the median depth are moved there.
_MIN_DEPTH_SHARE = 0.01
# Confidences above this do not weigh more: a few enormous ones would decide a registration.
_MAX_WEIGHT = 100.0


@pytrees.dataclass
class Pairs:
    """Predictions of ``P`` ordered pairs of views; ``points[:, 0]`` are of view ``first``.

    Both pointmaps of a pair are in the frame of ``first``. Confidences are at least 1; a pixel
    with confidence 1 or less has no weight.
    """

    first: Int[Array, " P"]
    second: Int[Array, " P"]
    points: Float[Array, "P 2 H W 3"]
    confidence: Float[Array, "P 2 H W"]


@pytrees.dataclass
class Start:
    """A first solution: cameras, depths along z, focals, and pair-to-world similarities."""

    world_from_cam: Float[Array, "V 4 4"]
    depth: Float[Array, "V H W"]
    focal_px: Float[Array, " V"]
    pair_scale: Float[Array, " P"]
    world_from_pair: Float[Array, "P 4 4"]


def scene_graph(
    num_views: int, graph: str = "complete", window: int = 4
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Ordered pairs of views, each in both orders.

    complete: all. window: views at most ``window`` apart in the order given. reference: view 0 with
    every other one. ValueError for another name or a window below 1.
    """
    if graph not in GRAPHS or window < 1:
        raise ValueError(f"graph must be one of {GRAPHS}, window >= 1; got {graph!r}, {window}")
    i, j = np.nonzero(~np.eye(num_views, dtype=bool))
    if graph == "window":
        keep = np.abs(i - j) <= window
    elif graph == "reference":
        keep = (i == 0) | (j == 0)
    else:
        keep = np.full(i.shape, True)
    return i[keep].astype(np.int32), j[keep].astype(np.int32)


def _weights(confidence: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    return jnp.where(confidence > 1, jnp.minimum(confidence, _MAX_WEIGHT), 0.0)


def _registered(source, target, confidence):
    """Similarity of one pointmap (or several) onto another, weighted by confidence."""
    flat = source.reshape(-1, 3), target.reshape(-1, 3), _weights(confidence).reshape(-1)
    return similarity(*flat)


@exact_products
def _moved(transform, points):
    scale, rotation, translation = transform
    offset = translation.reshape((1,) * (points.ndim - 1) + (3,))
    return scale * jnp.einsum("ij,...j->...i", rotation, points) + offset


def spread_over_tree(pairs: Pairs, num_views: int) -> Float[Array, "V H W 3"]:
    """World pointmaps of all views, growing from the most confident pair (Prim's algorithm)."""
    score = pairs.confidence.mean(axis=(-2, -1)).prod(axis=-1)
    root = jnp.argmax(score)
    ends = jnp.stack([pairs.first, pairs.second], axis=1)
    world = jnp.zeros((num_views, *pairs.points.shape[2:]), pairs.points.dtype)
    world = world.at[ends[root]].set(pairs.points[root])
    known = jnp.zeros(num_views, bool).at[ends[root]].set(True)

    def grow(state, _):
        world, known = state
        leads_on = known[pairs.first] != known[pairs.second]
        best = jnp.argmax(jnp.where(leads_on, score, -jnp.inf))
        old = jnp.where(known[pairs.first[best]], 0, 1)
        old_view, new_view = ends[best, old], ends[best, 1 - old]
        points, confidence = pairs.points[best], pairs.confidence[best]
        transform = _registered(points[old], world[old_view], confidence[old])
        grown = world.at[new_view].set(_moved(transform, points[1 - old]))
        some = leads_on.any()
        return (jnp.where(some, grown, world), known.at[new_view].max(some)), None

    (world, _), _ = jax.lax.scan(grow, (world, known), None, length=num_views - 2)
    return world


def _own_pairs(pairs: Pairs, num_views: int) -> Int[Array, " V"]:
    """For every view the pair, among those it comes first in, in which it is most confident."""
    score = pairs.confidence[:, 0].mean(axis=(-2, -1))
    mine = pairs.first[None] == jnp.arange(num_views)[:, None]
    return jnp.argmax(jnp.where(mine, score[None], -jnp.inf), axis=1)


def _cameras(pairs, world, principal_px):
    """Focals by Weiszfeld; poses by PnP, or else by registering the own pointmap.

    A view whose pixels have no weight takes the median of the others' focals.
    """
    own = _own_pairs(pairs, len(world))
    points, confidence = pairs.points[own, 0], pairs.confidence[own, 0]
    counting = jnp.where(confidence > 1, confidence, 0.0)
    focal_px = confident_focal(points, counting, principal_px=principal_px)
    focal_px = jnp.where(jnp.isfinite(focal_px), focal_px, jnp.nanmedian(focal_px))
    found = poses_from_pointmaps(
        world[:, None],
        _weights(confidence)[:, None],
        focal_px,
        principal_px=principal_px[:, None],
    )
    _, rotation, translation = jax.vmap(_registered)(points, world, confidence)
    registered = rigid(rotation, translation)
    ok = found.ok[:, 0]
    return jnp.where(ok[:, None, None], found.ref_from_cam[:, 0], registered), focal_px


def spanning_tree_start(pairs: Pairs, num_views: int, principal_px: Float[Array, "V 2"]) -> Start:
    """Chains the pairs into one world and reads cameras, depths and pair transforms off it."""
    world = spread_over_tree(pairs, num_views)
    world_from_cam, focal_px = _cameras(pairs, world, principal_px)
    ends = jnp.stack([pairs.first, pairs.second], axis=1)
    scale, rotation, translation = jax.vmap(_registered)(
        pairs.points, world[ends], pairs.confidence
    )
    # A pair in which nothing has weight is registered at the scale 0: it takes the others' mean.
    known = scale > 0
    mean_log = jnp.sum(jnp.log(jnp.where(known, scale, 1.0))) / jnp.maximum(jnp.sum(known), 1)
    scale = jnp.where(known, scale, jnp.exp(mean_log))
    factor = MEAN_SCALE / jnp.exp(mean_log)
    depth = transform_points(invert_rigid(world_from_cam), world)[..., 2]
    lowest = _MIN_DEPTH_SHARE * jnp.median(jnp.abs(depth), axis=(-2, -1), keepdims=True)
    return Start(
        world_from_cam=world_from_cam.at[:, :3, 3].multiply(factor),
        depth=factor * jnp.maximum(depth, lowest),
        focal_px=focal_px,
        pair_scale=factor * scale,
        world_from_pair=rigid(rotation, factor * translation),
    )


def normalized_pairs(pairs: Pairs) -> Pairs:
    """Every pair divided by its mean distance from its camera: steps then have a meaning."""
    weights = _weights(pairs.confidence)
    distance = jnp.sum(weights * safe_norm(pairs.points), axis=(1, 2, 3))
    distance = distance / jnp.maximum(weights.sum(axis=(1, 2, 3)), 1e-8)
    factor = 1 / jnp.maximum(distance, 1e-8)
    return pairs.replace(points=pairs.points * factor[:, None, None, None, None])
