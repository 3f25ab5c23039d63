"""The whole model: photographs to pointmaps, confidences and Gaussians in one forward pass.

MV-DUSt3R (Tang et al., arXiv 2412.06974), MV-DUSt3R+ and DUSt3R (Wang et al., arXiv 2312.14132)
are rows of `config.VARIANTS`. Images are ``[B, V, H, W, 3]`` in [-1, 1]; results are in input order
of views.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models import heads, sizes
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.decoder import decoder_of, join_reference, split_reference
from mvdust3r_jax.models.encoder import encoder_of
from mvdust3r_jax.models.point_heads import POINT_HEADS
from mvdust3r_jax.types import AnyArray, Prediction


class MVDust3r(nn.Module):
    """The network of a ``ModelConfig``."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        images: Float[AnyArray, "B V H W 3"],
        num_refs: int = 1,
        all_paths: bool = False,
        train: bool = False,
    ) -> Prediction:
        """Pointmaps of all views in the frame of the reference view.

        Args:
          images: in [-1, 1]; ``V`` at least 2, sides multiples of the patch.
          num_refs: ``R``, 1 to ``V``: the first ``R`` views each serve as the reference of a path.
          all_paths: return every path (axis ``R`` after ``B``) instead of path 0 alone.
          train: batch norm uses and updates batch statistics (collection ``batch_stats`` mutable).

        Raises:
          ValueError: images or ``num_refs`` do not fit; expected and received are quoted.
        """
        c = self.config
        _check_input(images, num_refs, c.patch)
        images = jnp.asarray(images, jnp.float32)
        grid = images.shape[2] // c.patch, images.shape[3] // c.patch
        enc_tokens = encoder_of(c, name="encoder")(images)
        decoder = decoder_of(c, name="decoder")
        keep = POINT_HEADS[c.head].all_layers
        dec_tokens, kept = decoder(enc_tokens, grid, num_refs, all_paths, keep_layers=keep)
        tokens = [dec_tokens]
        if keep:
            first = jnp.broadcast_to(
                enc_tokens[:, None], (*dec_tokens.shape[:2], *enc_tokens.shape[1:])
            )
            half, three_quarters, _ = sizes.hooks(c.dec_depth)
            tokens = [first, kept[half - 1], kept[three_quarters - 1], dec_tokens]
        pred = self._heads(tokens, images, grid, train)
        return pred if all_paths else jax.tree.map(lambda x: x[:, 0], pred)

    def _heads(self, tokens: list[Array], images: Array, grid, train: bool) -> Prediction:
        """Reference heads on view r of path r, source heads on all others."""
        paths = tokens[-1].shape[1]
        images = jnp.broadcast_to(images[:, None], (images.shape[0], paths, *images.shape[1:]))
        split = zip(*(split_reference(x) for x in (*tokens, images)), strict=True)
        ref, src = (
            self._one_head(role, list(parts[:-1]), parts[-1], grid, train)
            for role, parts in zip(("ref", "src"), split, strict=True)
        )
        return jax.tree.map(join_reference, ref, src)

    def _one_head(self, role: str, tokens: list[Array], images: Array, grid, train) -> Prediction:
        c, kind = self.config, POINT_HEADS[self.config.head]
        pixels = images.shape[-3] * images.shape[-2]

        def by_views(head, views, static, pixel_bytes):
            if train or self.is_initializing():
                return head(*views, static)
            return heads.few_views_at_once(head, views, static, view_bytes=pixel_bytes * pixels)

        head = kind.build(c.patch, c.conv_width, f"{role}_point_head")
        inputs = kind.inputs(tokens, images)
        if kind.pixel_bytes:
            raw = by_views(head, inputs, grid, kind.pixel_bytes)
        else:
            raw = head(*inputs, grid)
        xyz, raw_confidence = raw[..., :3], raw[..., 3]
        if c.skip:
            cnn = heads.SkipCnn(c.skip_width, c.dtype, c.bn_axis_name, name=f"{role}_skip_cnn")
            xyz = by_views(cnn, (images, xyz), train, sizes.skip_pixel_bytes(c.skip_width))
        gaussians = None
        if c.gaussians:
            head = heads.GaussianHead(
                c.patch, c.sh_degree, c.gaussian_hidden, name=f"{role}_gaussian_head"
            )
            gaussians = head(tokens[-1], grid)
        confidence = heads.confidence_from_raw(raw_confidence, c.conf_max)
        return Prediction(heads.points_from_raw(xyz), confidence, gaussians)


def _check_input(images: Any, num_refs: int, patch: int) -> None:
    if images.ndim != 5 or images.shape[-1] != 3:
        raise ValueError(f"images must be [B, V, H, W, 3], got shape {images.shape}")
    views, height, width = images.shape[1:4]
    if height % patch or width % patch or not height or not width:
        raise ValueError(f"image sides must be multiples of {patch}, got {height} x {width}")
    if views < 2:
        raise ValueError(f"at least 2 views are needed, got {views}")
    if not 1 <= num_refs <= views:
        raise ValueError(f"num_refs must be 1 to {views} (the number of views), got {num_refs}")


def abstract_variables(config: ModelConfig) -> dict[str, Any]:
    """Shapes and types of a network's variables, nothing computed; traced once for each config."""
    return jax.tree.map(lambda shape: shape, _abstract_variables(config))


@functools.lru_cache(maxsize=32)
def _abstract_variables(config: ModelConfig) -> dict[str, Any]:
    def init(key: Array, image: Array) -> dict[str, Any]:
        return MVDust3r(config).init(key, image, num_refs=2)

    image = jax.ShapeDtypeStruct((1, 2, config.patch, config.patch, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), image)
