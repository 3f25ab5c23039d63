"""Other surfaces than the generator's: a sample's hues turned, its saturation and contrast changed.

Rendered rooms have the colors of a catalog and much contrast, and a network that is trained on them
alone tells surfaces apart by these. All views of a sample are changed alike: a surface looks the
same from everywhere.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Logarithms of the largest factors, and how often nothing is left of color.
LESS_SATURATION, MORE_SATURATION, GRAY = 1.2, 0.7, 0.1
LESS_CONTRAST, MORE_CONTRAST = 0.7, 0.4
SHIFT = 0.1  # of the mean, in shares of white


def _turned(angle: Float[Array, " B"]) -> Float[Array, "B 3 3"]:
    """Rotations of RGB about gray."""
    gray = np.full(3, 1 / math.sqrt(3), np.float32)
    cross = np.cross(np.eye(3, dtype=np.float32), gray)
    along = np.outer(gray, gray)
    across = np.eye(3, dtype=np.float32) - along
    cos, sin = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    return along[None] + cos * across[None] + sin * cross[None]


def recolored(
    key: Array, images_01: Float[Array, "B S H W 3"], share: float | Array = 1.0
) -> Float[Array, "B S H W 3"]:
    """The same views of surfaces of other colors, in [0, 1].

    share: how many of the samples are changed, as a probability; 0 changes nothing.
    """
    batch = images_01.shape[0]
    keys = iter(jax.random.split(key, 6))

    def between(low: float, high: float) -> Float[Array, " B"]:
        return jax.random.uniform(next(keys), (batch,), minval=low, maxval=high)

    turned = _turned(between(-math.pi, math.pi))
    saturation = jnp.exp(between(-LESS_SATURATION, MORE_SATURATION))
    saturation = jnp.where(between(0, 1) < GRAY, 0.0, saturation)[:, None, None]
    contrast = jnp.exp(between(-LESS_CONTRAST, MORE_CONTRAST))
    shift = between(-SHIFT, SHIFT)
    chosen = between(0, 1) < share

    gray = np.full((1, 3, 3), 1 / 3, np.float32)
    matrix = contrast[:, None, None] * (gray + saturation * (turned - gray))
    mean = images_01.mean(axis=(1, 2, 3, 4), keepdims=True)
    changed = jnp.einsum("bshwj,bij->bshwi", images_01 - mean, matrix)
    changed = jnp.clip(changed + mean + shift.reshape(mean.shape), 0, 1)
    return jnp.where(chosen.reshape(mean.shape), changed, images_01)
