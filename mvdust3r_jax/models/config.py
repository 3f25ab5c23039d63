"""What a network is made of: `ModelConfig`, and the published and trained ones in ``VARIANTS``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mvdust3r_jax.models.point_heads import POINT_HEADS

GELUS = ("erf", "tanh")
DTYPES = ("float32", "bfloat16", "float16")
# Of ``jax.checkpoint_policies``, those that need no arguments.
REMAT_POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "checkpoint_dots",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots_with_no_batch_dims",
)
# What the rasterizer's spherical harmonics go up to.
MAX_SH_DEGREE = 3
# Fields of a ModelConfig that say how to compute; they change no parameter.
COMPUTE_FIELDS = ("dtype", "remat", "bn_axis_name", "gather_axis", "unroll")


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
    # Mapped axis (or axes) over which batch statistics are averaged.
    bn_axis_name: str | tuple[str, ...] | None = None
    # Mapped axis over which parameters of layers may be cut: each is gathered where it runs.
    gather_axis: str | None = None
    unroll: bool = False  # layers written out instead of scanned: for XLA's count of operations

    @property
    def of_layers(self) -> dict[str, Any]:
        """Options that layers of encoder and decoder have in common."""
        names = ("dtype", "remat", "unroll", "gelu", "gather_axis")
        return {name: getattr(self, name) for name in names}

    def __post_init__(self):
        if self.head not in POINT_HEADS:
            raise ValueError(f"head must be one of {tuple(POINT_HEADS)}, got {self.head!r}")
        if self.gelu not in GELUS:
            raise ValueError(f"gelu must be one of {GELUS}, got {self.gelu!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
        if not isinstance(self.remat, bool) and self.remat not in REMAT_POLICIES:
            raise ValueError(
                f"remat must be True ('full' in a config), False ('') or one of {REMAT_POLICIES}, "
                f"got {self.remat!r}"
            )
        if not 0 <= self.sh_degree <= MAX_SH_DEGREE:
            raise ValueError(f"sh_degree must lie in 0..{MAX_SH_DEGREE}, got {self.sh_degree}")
        if refusal := POINT_HEADS[self.head].refusal(self.patch, self.skip):
            raise ValueError(refusal)
        if POINT_HEADS[self.head].all_layers and self.dec_depth < 2:
            raise ValueError(
                f"the {self.head} head reads the decoder at three depths: dec_depth must be at "
                f"least 2, got {self.dec_depth}"
            )
        if self.gaussians and self.gaussian_hidden % 4:
            raise ValueError(f"gaussian_hidden must be a multiple of 4, got {self.gaussian_hidden}")
        for name, dim, count in (
            ("encoder", self.enc_dim, self.enc_heads),
            ("decoder", self.dec_dim, self.dec_heads),
        ):
            if dim % (4 * count):
                raise ValueError(
                    f"{name}: head width must be a multiple of 4, got width {dim}, {count} heads"
                )


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
_ROOM = replace(_SMALL, dec_depth=8, patch=16, head="conv", gelu="tanh")
# For experiments of half an hour on one core, on 32 x 32 pixels.
_WORLD = ModelConfig(
    *(96, 4, 3, 96, 3, 3), patch=8, skip=False, gaussian_hidden=96, max_scale=3e-2, gelu="tanh"
)

VARIANTS: dict[str, ModelConfig] = {
    "dust3r_224": _DUST3R,
    "dust3r_512_dpt": replace(_DUST3R, head="dpt"),
    "mvd": _RELEASE,
    "mvdp": replace(_RELEASE, cross_ref=True),
    "small_mvd": replace(_SMALL, cross_ref=False),
    "small_mvd_skip": replace(_SMALL, cross_ref=False, skip=True, skip_width=32),
    "small": _SMALL,
    "room_mvd": replace(_ROOM, cross_ref=False),
    "room": _ROOM,
    "world": replace(_WORLD, cross_ref=True),
    "world_mvd": _WORLD,
    "world_points": replace(_WORLD, gaussians=False),
    "world_points_cross_ref": replace(_WORLD, gaussians=False, cross_ref=True),
    "tiny": ModelConfig(
        32, 2, 2, 32, 2, 2, patch=8, skip=False, gaussian_hidden=32, cross_ref=True
    ),
}
VARIANTS["dust3r_512"] = VARIANTS["dust3r_224"]
