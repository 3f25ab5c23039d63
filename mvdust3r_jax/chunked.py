"""Maps in chunks of equal size, so that memory is bounded and the function is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_in_chunks(function: Callable, values: Any, at_most: int) -> Any:
    """``function`` on every row of a tree of arrays ``[n, ...]``, up to ``at_most`` side by side.

    ``jax.lax.map`` with a batch size compiles the function twice where a remainder is left. Here
    chunks are as even as can be, and the last one is filled up with copies of the last row.
    """
    count = len(jax.tree.leaves(values)[0])
    if count <= at_most:
        return jax.vmap(function)(values)
    chunks = -(-count // at_most)
    size = -(-count // chunks)
    rows = jnp.minimum(jnp.arange(chunks * size), count - 1)
    chunked = jax.tree.map(lambda x: x[rows].reshape(chunks, size, *x.shape[1:]), values)
    result = jax.lax.map(jax.vmap(function), chunked)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], result)
