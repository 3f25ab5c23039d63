"""Softmax attention within a view and from one view to others.

Queries, keys and values are ``[..., N, heads, d]`` with ``N`` tokens a view. Scores and softmax are
float32; the two products run in the type of their inputs. How many scores exist at once is bounded.
On CPUs it is as many views' queries and heads as keep their scores in the cache, or a part of one
view's where there are very many keys (two to four times faster than all at once); elsewhere as many
views as fit ``SCORE_BYTES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SCORE_BYTES = 2**30
CACHE_BYTES = 2**22
# One head's scores of one view: below, products are so small that groups of views bring nothing,
# and the scores of SMALL_VIEWS_BYTES are taken at once on every platform. Where platforms differ,
# the gradient keeps what any of them would need.
SMALL_HEAD_BYTES, SMALL_VIEWS_BYTES = 2**17, 2**26


def attend(
    q: Float[Array, "*batch Nq d"], k: Float[Array, "*batch Nk d"], v: Float[Array, "*batch Nk d"]
) -> Float[Array, "*batch Nq d"]:
    """Scaled dot-product attention of single heads, all scores at once.

    Weights are divided by their sum after the product, where there are far fewer numbers.
    """
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    scores = jnp.einsum("...qd,...kd->...qk", q, k, preferred_element_type=jnp.float32)
    largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - largest)
    out = jnp.einsum(
        "...qk,...kd->...qd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return (out / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)


def _attend_in_parts(q: Array, k: Array, v: Array, parts: int) -> Array:
    """The same, ``parts`` equal parts of the queries one after the other."""
    if parts == 1:
        return attend(q, k, v)
    split = jnp.moveaxis(q.reshape(*q.shape[:-2], parts, -1, q.shape[-1]), -3, 0)
    out = jax.lax.map(lambda part: attend(part, k, v), split)
    return jnp.moveaxis(out, 0, -3).reshape(q.shape)


def attend_each(
    q: Float[Array, "*batch Nq heads d"],
    k: Float[Array, "*batch Nk heads d"],
    v: Float[Array, "*batch Nk heads d"],
) -> Float[Array, "*batch Nq heads d"]:
    """Multi-head attention; batch entries one after the other or in groups."""
    flat = tuple(x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
    score_bytes = 4 * q.shape[-3] * k.shape[-3]

    def mapped(*qkv, views, parts):
        return _map(lambda args: _attend_in_parts(*args, parts), qkv, views)

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
    score_bytes = 4 * q.shape[-3] ** 2 * (memory - 1)

    def mapped(*qkv, views, parts):
        def one_path(args):
            queries, keys, values = args

            def one_view(args):
                query, index = args
                merge = (keys.shape[0], -1, keys.shape[-1])
                others_of = (x[:, index].reshape(merge) for x in (keys, values))
                return _attend_in_parts(query, *others_of, parts)

            queries = jnp.swapaxes(queries, 0, 1)
            return jnp.swapaxes(_map(one_view, (queries, jnp.asarray(others)), views), 0, 1)

        return _map(one_path, qkv, views // num_queries)

    return _per_platform(mapped, flat, score_bytes).reshape(q.shape)


def _map(body: Callable, xs: Any, group: int) -> Array:
    """``body`` over the leading axis, ``group`` entries at a time."""
    length = jax.tree.leaves(xs)[0].shape[0]
    if length <= group:
        return jax.vmap(body)(xs)
    return jax.lax.map(body, xs, batch_size=group if group > 1 else None)


def _heads_first(mapped: Callable, *qkv: Array, group: int) -> Array:
    """``mapped`` on arrays ``[batch, group of heads, ...]``; other groups join the batch."""
    heads = qkv[0].shape[-2]

    def split(x: Array) -> Array:
        x = x.reshape(*x.shape[:-2], heads // group, group, x.shape[-1])
        x = jnp.moveaxis(x, (-3, -2), (1, 2))
        return x.reshape(-1, *x.shape[2:])

    out = mapped(*(split(x) for x in qkv))
    out = out.reshape(-1, heads // group, *out.shape[1:])
    return jnp.moveaxis(out, (1, 2), (-3, -2)).reshape(qkv[0].shape)


def _per_platform(mapped: Callable, qkv: tuple[Array, ...], score_bytes: int) -> Array:
    """Chooses how much is done at once; ``score_bytes``: of one head of one querying view."""
    tokens, heads = qkv[0].shape[-3:-1]
    all_views = math.prod(qkv[0].shape[:-3])
    if score_bytes <= SMALL_HEAD_BYTES and all_views * heads * score_bytes <= SMALL_VIEWS_BYTES:
        return _heads_first(partial(mapped, views=all_views, parts=1), *qkv, group=heads)
    fitting = max(1, CACHE_BYTES // score_bytes)
    group = max(g for g in range(1, heads + 1) if heads % g == 0 and g <= fitting)
    parts = min(
        n
        for n in range(1, tokens + 1)
        if tokens % n == 0 and score_bytes // n <= CACHE_BYTES or n == tokens
    )
    views = max(1, SCORE_BYTES // (score_bytes * heads))
    in_cache = partial(mapped, views=max(1, fitting // heads), parts=parts)
    return jax.lax.platform_dependent(
        *qkv,
        cpu=partial(_heads_first, in_cache, group=group),
        default=partial(_heads_first, partial(mapped, views=views, parts=1), group=heads),
    )
