"""The pairwise baseline: every pair of a scene graph through the two-view network."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mvdust3r_jax.chunked import map_in_chunks
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.encoded import encode_views, predict_encoded
from mvdust3r_jax.pairwise.alignment_start import Pairs


def predict_pairs(
    variables: dict,
    images: Float[Array, "V H W 3"],
    first: Int[np.ndarray, " P"],
    second: Int[np.ndarray, " P"],
    *,
    config: ModelConfig,
    pairs_at_once: int = 8,
) -> Pairs:
    """The network on every pair (V = 2, R = 1), ``pairs_at_once`` in a forward pass.

    Every image is encoded once, however many pairs it belongs to.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    tokens = encode_views(variables, images, config)

    def one(ends):
        prediction = predict_encoded(variables, images[ends][None], tokens[ends][None], config)
        return prediction.points[0], prediction.confidence[0]

    ends = jnp.stack([first, second], axis=1)
    points, confidence = map_in_chunks(one, ends, pairs_at_once)
    return Pairs(first, second, points, confidence)


def exact_pairs(
    world_points: Float[Array, "V H W 3"],
    world_from_cam: Float[Array, "V 4 4"],
    valid: Array,
    first: Int[np.ndarray, " P"],
    second: Int[np.ndarray, " P"],
    scale: Float[Array, " P"],
) -> Pairs:
    """What a perfect two-view network would say, each pair at a given scale; for checks."""
    ends = jnp.stack([jnp.asarray(first), jnp.asarray(second)], axis=1)
    first_from_world = invert_rigid(world_from_cam[ends[:, 0]])
    points = transform_points(first_from_world, world_points[ends])
    confidence = jnp.where(valid[ends], 10.0, 1.0).astype(points.dtype)
    return Pairs(ends[:, 0], ends[:, 1], scale[:, None, None, None, None] * points, confidence)
