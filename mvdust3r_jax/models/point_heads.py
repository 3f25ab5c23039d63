"""The pointmap heads by name: how each is made and called, what it needs and what it costs.

A new head is a module of its own and a row here; ``ModelConfig.head`` names it. The operation count
(`flops`), the memory plan and the network read this table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Array

from mvdust3r_jax.models import head_macs, sizes
from mvdust3r_jax.models.head_macs import Shape

if TYPE_CHECKING:
    from flax import linen as nn


class PointHead(NamedTuple):
    """A kind of head. All of them turn tokens into raw xyz and confidence, ``[..., H, W, 4]``.

    build: (patch, width, name) -> module. inputs: (tokens, images) -> what the module is called
    with before the grid of patches; tokens are those of the last decoder layer alone, with
    ``all_layers`` those of four depths (`sizes.hooks`). macs: multiply-accumulates of one view.
    refusal: (patch, skip) -> why not, '' where it can be. pixel_bytes: of its largest maps, for
    heads whose views are taken few at a time; else 0. released: whether the PyTorch releases have
    it.
    """

    build: Callable[[int, int, str], nn.Module]
    inputs: Callable[[Sequence[Array], Array], tuple]
    macs: Callable[[Shape], int]
    refusal: Callable[[int, bool], str] = lambda patch, skip: ""
    all_layers: bool = False
    pixel_bytes: int = 0
    released: bool = False


def _linear(patch: int, width: int, name: str) -> nn.Module:
    from mvdust3r_jax.models import heads

    return heads.LinearPointHead(patch, name=name)


def _linear_inputs(tokens: Sequence[Array], images: Array) -> tuple:
    return (tokens[-1],)


def _dpt(patch: int, width: int, name: str) -> nn.Module:
    from mvdust3r_jax.models import dpt

    return dpt.DptPointHead(patch, name=name)


def _dpt_inputs(tokens: Sequence[Array], images: Array) -> tuple:
    return (tokens,)


def _refuse_dpt(patch: int, skip: bool) -> str:
    fits = patch == 16 and not skip
    return "" if fits else f"the DPT head needs patch=16 and skip=False, got {patch}, {skip}"


def _conv(patch: int, width: int, name: str) -> nn.Module:
    from mvdust3r_jax.models import heads

    return heads.ConvPointHead(patch, width, name=name)


def _conv_inputs(tokens: Sequence[Array], images: Array) -> tuple:
    return (tokens[-1], images)


def _refuse_conv(patch: int, skip: bool) -> str:
    fits = patch % sizes.CELL == 0
    wanted = f"the conv head needs a patch that is a multiple of {sizes.CELL}"
    return "" if fits else f"{wanted}, got {patch}"


POINT_HEADS = {
    "linear": PointHead(_linear, _linear_inputs, head_macs.linear_head, released=True),
    "dpt": PointHead(
        _dpt,
        _dpt_inputs,
        head_macs.dpt_head,
        refusal=_refuse_dpt,
        all_layers=True,
        pixel_bytes=sizes.DPT_PIXEL_BYTES,
        released=True,
    ),
    "conv": PointHead(_conv, _conv_inputs, head_macs.conv_head, refusal=_refuse_conv),
}
