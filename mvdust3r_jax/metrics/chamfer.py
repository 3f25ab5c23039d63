"""Chamfer distance between point clouds: exact nearest neighbors, blocked or by KD-tree.

``chamfer_distance`` runs anywhere under jit and costs n m distances, in blocks that bound the
memory: the choice for accelerators. ``chamfer_distance_kdtree`` runs on the host. Both give the sum
of the two mean squared nearest-neighbor distances, in squared units of the points, not capped.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from mvdust3r_jax.geometry.pointmaps import masked

# Points per block on either side; a block of distances then takes 16 MB.
_BLOCK = 2048
# Points in a leaf of the tree: a query far from all points visits hundreds of leaves, which costs
# half as much with these as with SciPy's ten; near queries cost the same.
_LEAF = 64


def _blocks(rows: Shaped[Array, " n *rest"]) -> Shaped[Array, "b k *rest"]:
    """Rows in equal blocks, the last one filled up with 0 or False; no block of no rows."""
    block = max(min(_BLOCK, rows.shape[0]), 1)
    missing = -rows.shape[0] % block
    padded = jnp.pad(rows, ((0, missing),) + ((0, 0),) * (rows.ndim - 1))
    return padded.reshape(padded.shape[0] // block, block, *rows.shape[1:])


def squared_nearest(
    queries: Float[Array, "n 3"], targets: Float[Array, "m 3"], target_valid: Bool[Array, " m"]
) -> Float[Array, " n"]:
    """Squared distance of every query to its nearest valid target; infinite without any.

    Distances are sums of squared differences: the shorter ``a^2 + b^2 - 2 a b`` cancels badly.
    """
    # Squares of infinite differences would have gradients of NaN: distances are masked, not points.
    targets = _blocks(masked(targets, target_valid)), _blocks(target_valid)

    def nearest(block):
        def closer(best, some):
            others, valid = some
            squared = sum((block[:, None, k] - others[None, :, k]) ** 2 for k in range(3))
            squared = jnp.where(valid[None], squared, jnp.inf)
            return jnp.minimum(best, squared.min(axis=1)), None

        start = jnp.full(block.shape[0], jnp.inf, block.dtype)
        return jax.lax.scan(closer, start, targets)[0]

    return jax.lax.map(nearest, _blocks(queries)).reshape(-1)[: queries.shape[0]]


def _mean_over(values: Float[Array, " n"], valid: Bool[Array, " n"]) -> Float[Array, ""]:
    count = valid.sum()
    mean = jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.nan)


@jax.jit
def chamfer_distance(
    points: Float[Array, "*batch n 3"],
    valid: Bool[Array, "*batch n"],
    true_points: Float[Array, "*batch m 3"],
    true_valid: Bool[Array, "*batch m"],
) -> Float[Array, "*batch"]:
    """Mean squared nearest-neighbor distance both ways, summed; NaN where a cloud is empty.

    A non-finite prediction makes the distance infinite.
    """

    def one(clouds):
        points, valid, true_points, true_valid = clouds
        finite = jnp.isfinite(points).all(axis=1)
        points, true_points = masked(points, valid & finite), masked(true_points, true_valid)
        forward = squared_nearest(points, true_points, true_valid)
        backward = squared_nearest(true_points, points, valid)
        distance = _mean_over(forward, valid) + _mean_over(backward, true_valid)
        return distance + jnp.where(jnp.any(valid & ~finite), jnp.inf, 0.0)

    # Not -1: that has no value where a cloud has no points.
    count = math.prod(valid.shape[:-1])
    flat = [
        points.reshape(count, *points.shape[-2:]),
        valid.reshape(count, valid.shape[-1]),
        true_points.reshape(count, *true_points.shape[-2:]),
        true_valid.reshape(count, true_valid.shape[-1]),
    ]
    return jax.lax.map(one, tuple(flat)).reshape(valid.shape[:-1])


def chamfer_distance_kdtree(
    points: Float[np.ndarray, "n 3"], true_points: Float[np.ndarray, "m 3"]
) -> float:
    """The same for two clouds of valid points, on the host (SciPy's KD-tree)."""
    from scipy.spatial import cKDTree

    if len(points) == 0 or len(true_points) == 0:
        return float("nan")
    if not np.isfinite(points).all():
        return float("inf")
    true_tree, tree = (
        cKDTree(cloud, leafsize=_LEAF, balanced_tree=False) for cloud in (true_points, points)
    )
    forward, _ = true_tree.query(points, workers=-1)
    backward, _ = tree.query(true_points, workers=-1)
    return float(np.mean(forward**2) + np.mean(backward**2))


def box_bound(points: Float[np.ndarray, "n 3"], true_points: Float[np.ndarray, "m 3"]) -> float:
    """Mean squared distances to the other's box, summed; 0 for what is not finite or empty.

    The chamfer distance never falls below it, but for rounding.
    """
    if len(points) == 0 or len(true_points) == 0 or not np.isfinite(points).all():
        return 0.0

    def outside(cloud, other):
        nearest = np.clip(cloud, other.min(axis=0), other.max(axis=0))
        return np.mean(np.sum((cloud - nearest).astype(np.float64) ** 2, axis=1))

    return float(outside(points, true_points) + outside(true_points, points))


def capped_chamfer_kdtree(
    points: Float[np.ndarray, "n 3"], true_points: Float[np.ndarray, "m 3"], cap: float
) -> float:
    """The smaller of distance and cap; clouds far apart, whose queries are slow, need no search."""
    if box_bound(points, true_points) >= cap:
        return cap
    # NaN stays NaN.
    return float(np.minimum(chamfer_distance_kdtree(points, true_points), cap))
