"""The multi-view decoder: every view's tokens look at all the other views, on every path.

Path ``r`` is the computation in which view ``r`` is the reference. On it that view goes through the
``ref_blocks`` and all others (the sources) through the ``src_blocks``; both read the tokens of the
layer before. In MV-DUSt3R+ a ``cross_ref`` block follows each layer, in which a view's tokens on
one path look at the same view's tokens on the other paths. State: ``[B, R, V, N, D]``, views in
input order. Keys and values of a view are projected once per weight set that asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models import layers, linear
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.rope import rope_table


def _per_path(mask: np.ndarray, rank: int) -> np.ndarray:
    """A table [R, views] shaped to select from arrays [B, R, views, ...] of this rank."""
    return mask.reshape(1, *mask.shape, *(1,) * (rank - 3))


def split_reference(
    x: Float[Array, "B R V *rest"],
) -> tuple[Float[Array, "B R 1 *rest"], Float[Array, "B R W *rest"]]:
    """Separates each path's reference (view r of path r) from its ``W = V - 1`` sources.

    Selections, not gathers: their gradients are selections too, where a gather's is a scatter.
    """
    paths, views = x.shape[1:3]
    if paths == 1:
        return x[:, :, :1], x[:, :, 1:]
    path = np.arange(paths)[:, None]
    is_ref = _per_path(np.arange(paths) == path, x.ndim)
    after_ref = _per_path(np.arange(views - 1) >= path, x.ndim)
    ref = jnp.where(is_ref, x[:, :, :paths], 0).sum(axis=2, keepdims=True)
    return ref, jnp.where(after_ref, x[:, :, 1:], x[:, :, :-1])


def join_reference(
    ref: Float[Array, "B R 1 *rest"], src: Float[Array, "B R W *rest"]
) -> Float[Array, "B R V *rest"]:
    """Puts references and sources back into the input order of views."""
    shifted = jnp.concatenate([ref, src], axis=2)
    paths, views = shifted.shape[1:3]
    if paths == 1:
        return shifted
    path = np.arange(paths)[:, None]
    is_ref = _per_path(np.arange(views) == path, shifted.ndim)
    before_ref = _per_path(np.arange(views) < path, shifted.ndim)
    unshifted = jnp.concatenate([src, ref], axis=2)
    return jnp.where(is_ref, ref, jnp.where(before_ref, unshifted, shifted))


class Decoder(nn.Module):
    """Encoder tokens in, decoder tokens of every path out."""

    dim: int
    depth: int
    heads: int
    cross_ref: bool
    dtype: str
    remat: bool | str = False
    unroll: bool = False
    gelu: str = "erf"
    gather_axis: str | None = None

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B V N E"],
        grid: tuple[int, int],
        num_refs: int,
        all_paths: bool,
        keep_layers: bool = False,
    ) -> tuple[Float[Array, "B R V N D"], Any]:
        """Runs all layers.

        Args:
          tokens: encoder tokens.
          grid: rows and columns of patches.
          num_refs: ``R``; the first ``R`` views are the references.
          all_paths: False returns path 0 alone (``R = 1`` in the result) and leaves out what only
            the other paths' results need.
          keep_layers: also return the tokens after each layer, before the final norm,
            ``[L, B, R, V, N, D]``.
        """
        table = rope_table(*grid, self.dim // self.heads)
        inits = {name: self._init(name) for name in self._sets()}
        params = {
            name: layers.layer_stack(self, name, init, self.gather_axis)
            for name, init in inits.items()
        }
        x = linear.dense(self.dim, self.dtype, "embed")(tokens).astype(jnp.float32)
        x = jnp.broadcast_to(x[:, None], (x.shape[0], num_refs, *x.shape[1:]))
        only_path_0 = num_refs > 1 and not all_paths
        tail = only_path_0 and self.cross_ref

        whole = layers.gathering(inits, self.gather_axis)

        def body(x, params):
            params = whole(params)
            x = self._across_views(params, x, table)
            if self.cross_ref:
                x = self._across_paths(params, x, table)
            return x, (x if keep_layers else None)

        if only_path_0 and not self.cross_ref:
            x = x[:, :1]  # paths never meet
        x, kept = layers.scan_layers(
            layers.rematerialized(body, self.remat),
            x,
            params,
            length=self.depth - tail,
            unroll=self.unroll,
        )
        if tail:
            last = whole(jax.tree.map(lambda p: p[-1], params))
            x = self._last_layer_of_path_0(last, x, table)
        if keep_layers and only_path_0:
            kept = kept[:, :, :1]
            kept = jnp.concatenate([kept, x[None]]) if tail else kept
        return layers.layer_norm("float32", "norm")(x), kept

    def _sets(self) -> list[str]:
        return ["ref_blocks", "src_blocks"] + ["cross_ref_blocks"] * self.cross_ref

    def _block(self, name: str) -> layers.DecoderBlock:
        # Zero output projections: a fresh cross-reference block leaves its input as it is.
        init = linear.zeros if name == "cross_ref_blocks" else linear.xavier
        return layers.DecoderBlock(self.heads, self.dtype, init, self.gelu, parent=None)

    def _init(self, name: str) -> Callable:
        view = jnp.zeros((1, 1, 1, self.dim))
        example = view, view, rope_table(1, 1, self.dim // self.heads)
        return layers.stack_init(self._block(name), self.depth, *example)

    def _across_views(self, params: Any, x: Array, table: layers.Table) -> Array:
        ref, src = split_reference(x)
        memory = jnp.concatenate([ref, src], axis=2)
        new_ref = self._block("ref_blocks").apply({"params": params["ref_blocks"]}, ref, src, table)
        new_src = self._block("src_blocks").apply(
            {"params": params["src_blocks"]}, src, memory, table, True
        )
        return join_reference(new_ref, new_src)

    def _across_paths(self, params: Any, x: Array, table: layers.Table) -> Array:
        x = jnp.swapaxes(x, 1, 2)
        block = self._block("cross_ref_blocks")
        x = block.apply({"params": params["cross_ref_blocks"]}, x, x, table, True)
        return jnp.swapaxes(x, 1, 2)

    def _last_layer_of_path_0(self, params: Any, x: Array, table: layers.Table) -> Array:
        x = jnp.swapaxes(self._across_views(params, x, table), 1, 2)
        block = self._block("cross_ref_blocks")
        x = block.apply({"params": params["cross_ref_blocks"]}, x[:, :, :1], x[:, :, 1:], table)
        return jnp.swapaxes(x, 1, 2)


def decoder_of(config: ModelConfig, name: str | None = None) -> Decoder:
    """The decoder of a network, on its own or inside of it."""
    c = config
    return Decoder(c.dec_dim, c.dec_depth, c.dec_heads, c.cross_ref, **c.of_layers, name=name)
