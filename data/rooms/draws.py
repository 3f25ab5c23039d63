"""Random numbers for one scene: slices of a single block, in the order in which they are asked for.

One block compiles to one generator instead of a hundred. The order of the calls is part of the
mapping from seeds to scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.types import AnyArray


class Draws:
    """``count`` uniform numbers of a key, handed out once each."""

    def __init__(self, key: jax.Array, count: int):
        self._block, self._next = jax.random.uniform(key, (count,)), 0

    def unit(self, *shape: int) -> Float[Array, "*shape"]:
        """Uniform in [0, 1). Raises ValueError when the block is used up."""
        size = math.prod(shape)
        start, self._next = self._next, self._next + size
        if self._next > len(self._block):
            raise ValueError(f"{len(self._block)} numbers were drawn, {self._next} are asked for")
        return self._block[start : self._next].reshape(shape)

    def between(self, low, high, *shape: int) -> Float[Array, "*shape"]:
        """Uniform between bounds, which may be traced and must broadcast to ``shape``."""
        return low + (high - low) * self.unit(*shape)

    def chance(self, probability: float, *shape: int) -> Bool[Array, "*shape"]:
        """True with a probability."""
        return self.unit(*shape) < probability

    def whole(self, count: int, *shape: int) -> Int[Array, "*shape"]:
        """Integers in [0, count)."""
        return jnp.minimum((self.unit(*shape) * count).astype(jnp.int32), count - 1)

    def choice(self, weights: Sequence[float] | AnyArray, *shape: int) -> Int[Array, "*shape"]:
        """Indices drawn with the given weights (``[n]``, may be traced)."""
        total = jnp.cumsum(jnp.asarray(weights, jnp.float32))
        threshold = self.unit(*shape) * total[-1]
        below = threshold[..., None] >= total[:-1].reshape((1,) * len(shape) + (-1,))
        return below.sum(axis=-1).astype(jnp.int32)


def rows(table: np.ndarray, index: Int[Array, "*shape"]) -> Array:
    """Rows of a constant table."""
    return jnp.asarray(table)[index]
