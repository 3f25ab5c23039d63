"""Transformer blocks of encoder and decoder: pre-norm, residual, biases everywhere.

Parameters and the residual stream are float32; ``dtype`` is the type of the matrix products.
Tokens are ``[..., N, D]``; blocks that look across views take the view axis before ``N``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models.attention import attend_each, attend_other_views
from mvdust3r_jax.models.linear import dense, xavier
from mvdust3r_jax.models.rope import rotate

Table = tuple[np.ndarray, np.ndarray]
LAYER_NORM_EPS = 1e-6  # CroCo's and DUSt3R's, not the 1e-5 of most libraries


def layer_norm(dtype: str, name: str) -> nn.LayerNorm:
    """Layer norm with float32 statistics and output in ``dtype``."""
    return nn.LayerNorm(LAYER_NORM_EPS, dtype=dtype, use_fast_variance=False, name=name)


class Mlp(nn.Module):
    """Two linear layers, four times as wide between, with GELU."""

    dtype: str
    out_init: Callable = xavier
    gelu: str = "erf"  # exact, or 'tanh'

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        hidden = dense(4 * x.shape[-1], self.dtype, "fc1")(x)
        hidden = jax.nn.gelu(hidden, approximate=self.gelu == "tanh")
        return dense(x.shape[-1], self.dtype, "fc2", self.out_init)(hidden)


class SelfAttention(nn.Module):
    """Attention among the tokens of one view."""

    heads: int
    dtype: str
    out_init: Callable = xavier

    @nn.compact
    def __call__(self, x: Float[Array, "*batch N D"], table: Table) -> Float[Array, "*batch N D"]:
        qkv = dense(3 * x.shape[-1], self.dtype, "qkv")(x)
        qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, -1)
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        out = attend_each(rotate(q, table), rotate(k, table), v)
        return dense(x.shape[-1], self.dtype, "proj", self.out_init)(out.reshape(x.shape))


class CrossAttention(nn.Module):
    """Attention of each querying view to the tokens of all other memory views together."""

    heads: int
    dtype: str
    out_init: Callable = xavier

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch Q N D"],
        memory: Float[Array, "*batch M N D"],
        table: Table,
        memory_has_queries: bool,
    ) -> Float[Array, "*batch Q N D"]:
        """Without ``memory_has_queries`` the memory holds other views only, and all is attended."""
        width = x.shape[-1]
        q = dense(width, self.dtype, "q")(x).reshape(*x.shape[:-1], self.heads, -1)
        k = dense(width, self.dtype, "k")(memory).reshape(*memory.shape[:-1], self.heads, -1)
        v = dense(width, self.dtype, "v")(memory).reshape(k.shape)
        q, k = rotate(q, table), rotate(k, table)
        if memory_has_queries:
            out = attend_other_views(q, k, v)
        else:
            merge = (*q.shape[:-4], 1, -1, *q.shape[-2:])
            out = attend_each(q, k.reshape(merge), v.reshape(merge))
        return dense(width, self.dtype, "proj", self.out_init)(out.reshape(x.shape))


class EncoderBlock(nn.Module):
    """Self-attention and MLP."""

    heads: int
    dtype: str
    gelu: str = "erf"

    @nn.compact
    def __call__(self, x: Float[Array, "*batch N D"], table: Table) -> Float[Array, "*batch N D"]:
        x = x + SelfAttention(self.heads, self.dtype, name="attn")(
            layer_norm(self.dtype, "norm1")(x), table
        )
        return x + Mlp(self.dtype, gelu=self.gelu, name="mlp")(layer_norm(self.dtype, "norm2")(x))


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to other views (their tokens before this layer), MLP.

    The cross-attention is left out where nothing is there to attend to: an empty memory (``M = 0``)
    or, with ``memory_has_queries``, the own view alone (``M = 1``).
    """

    heads: int
    dtype: str
    out_init: Callable = xavier
    gelu: str = "erf"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch Q N D"],
        memory: Float[Array, "*batch M N D"],
        table: Table,
        memory_has_queries: bool = False,
    ) -> Float[Array, "*batch Q N D"]:
        """``memory_has_queries``: the querying views are the last ``Q`` memory views."""
        make = dict(heads=self.heads, dtype=self.dtype, out_init=self.out_init)
        normed = layer_norm(self.dtype, "norm1")(x)
        x = x + SelfAttention(**make, name="attn")(normed, table)
        if memory.shape[-3] > memory_has_queries * 1:
            normed = layer_norm(self.dtype, "norm2")(x)
            memory = layer_norm(self.dtype, "norm_y")(memory)
            cross = CrossAttention(**make, name="cross_attn")
            x = x + cross(normed, memory, table, memory_has_queries)
        normed = layer_norm(self.dtype, "norm3")(x)
        return x + Mlp(self.dtype, self.out_init, self.gelu, name="mlp")(normed)


def stack_init(block: nn.Module, depth: int, *example: Any) -> Callable[[jax.Array], Any]:
    """Initializer of ``depth`` blocks' parameters, stacked on a leading layer axis."""
    return lambda key: jax.vmap(lambda k: block.init(k, *example)["params"])(
        jax.random.split(key, depth)
    )


def layer_stack(module: nn.Module, name: str, init: Callable, gather_axis: str | None) -> Any:
    """The module's parameters ``name``, those of all layers.

    With ``gather_axis`` they may be this chip's part of them, which Flax would refuse as misshapen.
    """
    if gather_axis and module.has_variable("params", name):
        return module.get_variable("params", name)
    return module.param(name, init)


def gathering(inits: Any, gather_axis: str | None) -> Callable[[Any], Any]:
    """A function that makes one layer's parameters whole, of which this chip holds its part.

    Called in the body of a scan that is rematerialized, it gathers them once more in the backward
    pass, and their gradients are cut there: of no more than one layer whole arrays exist.

    Args:
      inits: initializer of the stack, or a tree of them: its shapes tell which axes are cut.
      gather_axis: the mapped axis, None where nothing is cut.
    """
    if not gather_axis:
        return lambda params: params
    stack = jax.tree.map(lambda init: jax.eval_shape(init, jax.random.key(0)), inits)

    def whole(part: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
        cut = (axis for axis, size in enumerate(like.shape[1:]) if part.shape[axis] != size)
        for axis in cut:
            part = jax.lax.all_gather(part, gather_axis, axis=axis, tiled=True)
        return part

    return lambda params: jax.tree.map(whole, params, stack)


def rematerialized(body: Callable, remat: bool | str) -> Callable:
    """``body`` with its activations recomputed in the backward pass.

    Args:
      remat: False keeps all activations, True keeps none, and the name of a policy of
        ``jax.checkpoint_policies`` (``'dots_with_no_batch_dims_saveable'``) keeps what it says.
    """
    if not remat:
        return body
    policy = None if remat is True else getattr(jax.checkpoint_policies, remat)
    return jax.checkpoint(body, policy=policy, prevent_cse=False)


def scan_layers(
    body: Callable, x: Any, params: Any, *, length: int, unroll: bool = False
) -> tuple[Any, Any]:
    """Runs ``x, y = body(x, layer_params)`` over the first ``length`` layers.

    A scan compiles one layer, whatever the depth. With ``length`` below the depth, layers are
    indexed inside the loop: slicing the stack beforehand would copy nearly all parameters.

    Returns:
      x after the last of these layers, and every layer's y, stacked.
    """
    depth = jax.tree.leaves(params)[0].shape[0]
    unroll = length if unroll else 1
    if length == depth:
        return jax.lax.scan(body, x, params, unroll=unroll)

    def indexed(x, layer):
        # Parameters may be NumPy arrays, which a traced number does not index.
        return body(x, jax.tree.map(lambda p: jnp.asarray(p)[layer], params))

    return jax.lax.scan(indexed, x, jnp.arange(length), unroll=unroll)
