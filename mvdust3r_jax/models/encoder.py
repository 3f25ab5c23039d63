"""The image encoder: a vision transformer (ViT-L in the release) with 2-D RoPE.

No class token and no absolute position. Its blocks are stacked on a leading layer axis and scanned.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models import layers, linear
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.rope import rope_table


def patchify(images: Float[Array, "*batch H W C"], patch: int) -> Float[Array, "*batch N P"]:
    """Cuts images into patches, row by row; within a patch: row, column, channel."""
    *batch, height, width, channels = images.shape
    rows, columns = height // patch, width // patch
    x = images.reshape(*batch, rows, patch, columns, patch, channels)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*batch, rows * columns, patch * patch * channels)


class Encoder(nn.Module):
    """Tokens of each image on its own, after the final norm; float32."""

    dim: int
    depth: int
    heads: int
    patch: int
    dtype: str
    remat: bool | str = False
    unroll: bool = False
    gelu: str = "erf"
    gather_axis: str | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "*batch H W 3"]) -> Float[Array, "*batch N D"]:
        head_dim = self.dim // self.heads
        table = rope_table(*(s // self.patch for s in images.shape[-3:-1]), head_dim)
        block = layers.EncoderBlock(self.heads, self.dtype, self.gelu, parent=None)
        example = jnp.zeros((1, 1, self.dim)), rope_table(1, 1, head_dim)
        init = layers.stack_init(block, self.depth, *example)
        blocks = layers.layer_stack(self, "blocks", init, self.gather_axis)

        whole = layers.gathering(init, self.gather_axis)

        def body(x, params):
            return block.apply({"params": whole(params)}, x, table), None

        # This sum of 768 products, before all norms, would be the network's largest rounding error.
        embed = linear.dense_in_parts(self.dim, self.dtype, "patch_embed", parts=self.patch)
        x = embed(patchify(images, self.patch)).astype(jnp.float32)
        body = layers.rematerialized(body, self.remat)
        x, _ = layers.scan_layers(body, x, blocks, length=self.depth, unroll=self.unroll)
        return layers.layer_norm("float32", "norm")(x)


def encoder_of(config: ModelConfig, name: str | None = None) -> Encoder:
    """The encoder of a network, on its own or inside of it."""
    c = config
    return Encoder(c.enc_dim, c.enc_depth, c.enc_heads, c.patch, **c.of_layers, name=name)
