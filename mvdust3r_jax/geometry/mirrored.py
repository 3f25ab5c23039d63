"""One answer out of two: of a network to the views as they are, and to their mirror images.

A room in a mirror is a room, but much of the network's error is another one there, and goes out of
the mean. This takes a second pass, and is no part of the paper.
"""

from __future__ import annotations

import jax.numpy as jnp

from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.types import Prediction


def mean_of_both(seen: Prediction, in_mirror: Prediction) -> Prediction:
    """Mean points at the scale of ``seen``, geometric means of the confidences; its Gaussians.

    Both are ``[*batch, V, H, W, ...]``, in the camera frame of one reference view: ``in_mirror`` of
    the views turned left for right, with pixels and x as the network gave them. Where one of the
    two points is not finite, that of ``seen`` stays.
    """
    x, y_z = in_mirror.points[..., ::-1, :1], in_mirror.points[..., ::-1, 1:]
    points, confidence = jnp.concatenate([-x, y_z], axis=-1), in_mirror.confidence[..., ::-1]
    both = (jnp.isfinite(points) & jnp.isfinite(seen.points)).all(axis=-1)
    scale = mean_distance(seen.points, both) / mean_distance(points, both)
    points = (seen.points + scale[..., None, None, None, None] * points) / 2
    return seen.replace(
        points=jnp.where(both[..., None], points, seen.points),
        confidence=jnp.where(both, jnp.sqrt(seen.confidence * confidence), seen.confidence),
    )
