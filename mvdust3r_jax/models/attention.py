"""Softmax attention within a view and from one view to others.

Queries, keys and values are ``[..., N, heads, d]`` with ``N`` tokens a view. Scores and softmax are
float32; the two products run in the type of their inputs. How many scores exist at once is bounded:
on CPUs one view's queries are worked on at a time, so that its scores stay in the cache (measured
three times faster than all at once); elsewhere as many views as fit ``SCORE_BYTES``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SCORE_BYTES = 2**30


def attend(
    q: Float[Array, "*batch Nq heads d"],
    k: Float[Array, "*batch Nk heads d"],
    v: Float[Array, "*batch Nk heads d"],
) -> Float[Array, "*batch Nq heads d"]:
    """Scaled dot-product attention, all scores at once."""
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, v)


def attend_each(
    q: Float[Array, "*batch Nq heads d"],
    k: Float[Array, "*batch Nk heads d"],
    v: Float[Array, "*batch Nk heads d"],
) -> Float[Array, "*batch Nq heads d"]:
    """``attend``, batch entries one after the other or in groups."""
    flat = tuple(x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
    score_bytes = 4 * q.shape[-2] * q.shape[-3] * k.shape[-3]

    def mapped(*qkv, group):
        return _map(lambda args: attend(*args), qkv, group)

    return _per_platform(mapped, flat, score_bytes).reshape(q.shape)


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

    The querying views are the last ``Q`` memory views. The own view is left out, not masked: no
    score of it is ever computed.
    """
    flat = tuple(x.reshape(-1, *x.shape[-4:]) for x in (q, k, v))
    num_queries, memory = q.shape[-4], k.shape[-4]
    others = other_views(num_queries, memory)
    score_bytes = 4 * q.shape[-2] * q.shape[-3] ** 2 * (memory - 1)

    def mapped(*qkv, group):
        def one_path(args):
            queries, keys, values = args

            def one_view(args):
                query, index = args
                merge = (-1, *keys.shape[-2:])
                return attend(query, keys[index].reshape(merge), values[index].reshape(merge))

            return _map(one_view, (queries, jnp.asarray(others)), group)

        return _map(one_path, qkv, group // num_queries)

    return _per_platform(mapped, flat, score_bytes).reshape(q.shape)


def _map(body: Callable, xs: Any, group: int) -> Array:
    """``body`` over the leading axis, ``group`` entries at a time."""
    length = jax.tree.leaves(xs)[0].shape[0]
    if length <= group:
        return jax.vmap(body)(xs)
    return jax.lax.map(body, xs, batch_size=group if group > 1 else None)


def _per_platform(mapped: Callable, qkv: tuple[Array, ...], score_bytes: int) -> Array:
    """One entry at a time on CPUs, groups within ``SCORE_BYTES`` elsewhere."""
    group = max(1, SCORE_BYTES // score_bytes)
    return jax.lax.platform_dependent(
        *qkv, cpu=partial(mapped, group=1), default=partial(mapped, group=group)
    )
