"""The whole model: photographs to pointmaps, confidences and Gaussians in one forward pass.

MV-DUSt3R (Tang et al., arXiv 2412.06974), MV-DUSt3R+ and DUSt3R (Wang et al., arXiv 2312.14132)
are rows of ``VARIANTS``. Images are ``[B, V, H, W, 3]`` in [-1, 1]; results are in input order of
views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models import dpt, heads
from mvdust3r_jax.models.decoder import Decoder, join_reference, split_reference
from mvdust3r_jax.models.encoder import Encoder
from mvdust3r_jax.models.point_heads import POINT_HEADS
from mvdust3r_jax.types import Prediction

GELUS = ("erf", "tanh")
DTYPES = ("float32", "bfloat16", "float16")
# Fields of a ModelConfig that say how to compute; they change no parameter.
COMPUTE_FIELDS = ("dtype", "remat", "bn_axis_name", "unroll")


@dataclass(frozen=True)
class ModelConfig:
    """What a network is made of; see ``VARIANTS`` for the published ones."""

    enc_dim: int
    enc_depth: int
    enc_heads: int
    dec_dim: int
    dec_depth: int
    dec_heads: int
    patch: int = 16  # pixels; image sides are multiples of it
    head: str = "linear"  # pointmap head: 'linear', 'dpt', or 'conv', which also sees the image
    conv_width: int = 48  # channels of the conv head
    gelu: str = "erf"  # exact as published, or 'tanh'
    skip: bool = True  # the CNN that refines points by the image
    skip_width: int = 256  # its channels
    gaussians: bool = True
    sh_degree: int = 0  # of the Gaussians' colors
    # Upper limit of a Gaussian's standard deviation, where the points' mean distance is 1. At 224
    # pixels it is about a pixel; networks for smaller images need more to close the gaps.
    max_scale: float = 4e-3
    gaussian_hidden: int = 768  # width inside the Gaussian heads, a multiple of 4
    cross_ref: bool = False  # the '+': blocks across reference paths
    conf_max: float = 1e9  # confidences are clipped here; inf: never
    dtype: str = "float32"  # of matrix products; parameters, norms and results stay float32
    remat: bool | str = False  # recompute activations: True, or a jax.checkpoint_policies name
    bn_axis_name: str | None = None  # mapped axis over which batch statistics are averaged
    unroll: bool = False  # layers written out instead of scanned: for XLA's count of operations

    def __post_init__(self):
        if self.head not in POINT_HEADS:
            raise ValueError(f"head must be one of {tuple(POINT_HEADS)}, got {self.head!r}")
        if self.gelu not in GELUS:
            raise ValueError(f"gelu must be one of {GELUS}, got {self.gelu!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
        if refusal := POINT_HEADS[self.head].refusal(self.patch, self.skip):
            raise ValueError(refusal)
        for name, dim, count in (
            ("encoder", self.enc_dim, self.enc_heads),
            ("decoder", self.dec_dim, self.dec_heads),
        ):
            if dim % (4 * count):
                raise ValueError(
                    f"{name}: head width must be a multiple of 4, got width {dim}, {count} heads"
                )


class MVDust3r(nn.Module):
    """The network of a ``ModelConfig``."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "B V H W 3"],
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
        grid = images.shape[2] // c.patch, images.shape[3] // c.patch
        common = dict(dtype=c.dtype, remat=c.remat, unroll=c.unroll, gelu=c.gelu)
        encoder = Encoder(c.enc_dim, c.enc_depth, c.enc_heads, c.patch, **common, name="encoder")
        enc_tokens = encoder(images.astype(jnp.float32))
        decoder = Decoder(
            c.dec_dim, c.dec_depth, c.dec_heads, c.cross_ref, **common, name="decoder"
        )
        keep = POINT_HEADS[c.head].all_layers
        dec_tokens, kept = decoder(enc_tokens, grid, num_refs, all_paths, keep_layers=keep)
        tokens = [dec_tokens]
        if keep:
            first = jnp.broadcast_to(
                enc_tokens[:, None], (*dec_tokens.shape[:2], *enc_tokens.shape[1:])
            )
            half, three_quarters, _ = dpt.hooks(c.dec_depth)
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
            xyz = by_views(cnn, (images, xyz), train, heads.skip_pixel_bytes(c.skip_width))
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


_RELEASE = ModelConfig(1024, 24, 16, 768, 12, 12)
_SMALL = ModelConfig(
    *(192, 6, 3, 192, 4, 3),
    patch=8,
    skip=False,
    gaussian_hidden=192,
    max_scale=1.4e-2,
    cross_ref=True,
)

# Of both linear releases, 224 and 512: sizes of images are no part of a network.
_DUST3R = replace(_RELEASE, skip=False, gaussians=False, conf_max=float("inf"))
# As many tokens a view as ``small``, from four times as many pixels.
_ROOM = replace(_SMALL, patch=16, head="conv", gelu="tanh")

VARIANTS: dict[str, ModelConfig] = {
    "dust3r_224": _DUST3R,
    "dust3r_512_dpt": replace(_DUST3R, head="dpt"),
    "mvd": _RELEASE,
    "mvdp": replace(_RELEASE, cross_ref=True),
    "small_mvd": replace(_SMALL, cross_ref=False),
    "small_mvd_skip": replace(_SMALL, cross_ref=False, skip=True, skip_width=32),
    "small": _SMALL,
    "room_mvd": replace(_ROOM, cross_ref=False, gaussians=False),
    "room": _ROOM,
    "tiny": ModelConfig(
        32, 2, 2, 32, 2, 2, patch=8, skip=False, gaussian_hidden=32, cross_ref=True
    ),
}
VARIANTS["dust3r_512"] = VARIANTS["dust3r_224"]


def abstract_variables(config: ModelConfig) -> dict[str, Any]:
    """Shapes and types of a network's variables, nothing computed."""

    def init(key: Array, image: Array) -> dict[str, Any]:
        return MVDust3r(config).init(key, image, num_refs=2)

    image = jax.ShapeDtypeStruct((1, 2, config.patch, config.patch, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), image)
