"""Say which intermediate arrays are worth writing to memory, where XLA would compute them again.

XLA's CPU compiler repeats a cheap expression inside each of its consumers. Where one projection
feeds ten arrays, or one alpha seven running sums, the repetition costs several times the work
itself; an optimization barrier does not help, as it is gone before fusion. Two things do:

``keep``: a division counts as expensive and is not repeated for a second consumer, so dividing by
a 1 that the compiler cannot know to be 1 keeps the values, bit for bit. Cheap enough for an inner
loop, and differentiable.
``materialize``: the state of a loop lies in memory, also that of a loop that never runs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


def unknown_one(certain: Bool[Array, ""]) -> Float[Array, ""]:
    """The number 1, for a condition that always holds but depends on data."""
    return lax.stop_gradient(jnp.where(certain, 1.0, 2.0))


def keep(values: Float[Array, "*shape"], one: Float[Array, ""]) -> Float[Array, "*shape"]:
    """The same values, computed once; so is their cotangent."""
    return values / one


def materialize(tree, certain: Bool[Array, ""]):
    """The same arrays, computed before anything that uses them. Not differentiable."""

    def change(state):
        _, tree = state
        return jnp.bool_(False), jax.tree.map(lambda x: x + jnp.ones((), x.dtype), tree)

    return lax.while_loop(lambda state: state[0], change, (jnp.logical_not(certain), tree))[1]
