"""Softmax attention within a view and from one view to others.

Queries, keys and values are ``[..., N, heads, d]`` with ``N`` tokens a view. Scores and softmax are
float32; the two products run in the type of their inputs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def attend(
    q: Float[Array, "*batch Nq heads d"],
    k: Float[Array, "*batch Nk heads d"],
    v: Float[Array, "*batch Nk heads d"],
) -> Float[Array, "*batch Nq heads d"]:
    """Plain scaled dot-product attention; the scores of one call are materialised."""
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, v)


def other_views(queries: int, memory: int) -> np.ndarray:
    """Which memory views each querying view may see: all but itself.

    The querying views are the last ``queries`` of the ``memory`` views.

    Returns:
      ``[queries, memory - 1]`` indices into the memory.
    """
    own = np.arange(queries)[:, None] + memory - queries
    index = np.arange(memory - 1)[None, :]
    return index + (index >= own)


def attend_other_views(
    q: Float[Array, "*batch Q N heads d"],
    k: Float[Array, "*batch M N heads d"],
    v: Float[Array, "*batch M N heads d"],
) -> Float[Array, "*batch Q N heads d"]:
    """Each querying view attends to the tokens of all memory views except itself, together.

    The querying views are the last ``Q`` memory views. One querying view is worked on at a time, so
    that scores of ``[heads, N, (M - 1) N]`` are the most that exists, whatever the number of views.
    """
    num_queries, memory = q.shape[-4], k.shape[-4]
    tail = q.shape[-3:]
    others = other_views(num_queries, memory)
    q = q.reshape(-1, *tail)
    k, v = (x.reshape(-1, *x.shape[-4:]) for x in (k, v))
    group, view = np.divmod(np.arange(q.shape[0]), num_queries)

    def one(args):
        query, group, index = args
        keys, values = (x[group, index].reshape(-1, *tail[1:]) for x in (k, v))
        return attend(query, keys, values)

    return jax.lax.map(one, (q, group, others[view]))
