"""Which PyTorch tensor is which of our arrays, and how their layouts differ.

Ours: linear kernels ``[in, out]``, convolutions ``[h, w, in, out]``, the layers of a stack on a
leading axis, and the numbers of a patch as (row, column, channel) where PyTorch has (channel, row,
column).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.point_heads import POINT_HEADS


@dataclass(frozen=True)
class Entry:
    """One PyTorch tensor: its name, our path, the layer it is of a stack, and its layout."""

    torch_name: str
    path: tuple[str, ...]
    layer: int | None
    layout: str


# ---------------------------------------------------------------- layouts


def to_flax(x: np.ndarray, layout: str, patch: int) -> np.ndarray:
    """PyTorch's layout to ours, of any type; what has no layout of its own stays as it is.

    linear [out, in] to [in, out]; conv [out, in, h, w] to [h, w, in, out], patch_embed to
    [h w in, out]; transposed_conv [in, out, h, w] to [in, h, w, out]; pixels [channels patch patch,
    in], or without the last axis, to [in, patch patch channels].
    """
    if layout == "linear":
        return x.T
    if layout in ("conv", "patch_embed"):
        x = x.transpose(2, 3, 1, 0)
        return x.reshape(-1, x.shape[-1]) if layout == "patch_embed" else x
    if layout == "transposed_conv":  # [in, out, h, w] to [in, h, w, out]
        return x.transpose(0, 2, 3, 1)
    if layout == "pixels":  # rows (channel, row, column) to columns (row, column, channel)
        x = x.reshape(-1, patch, patch, *x.shape[1:])
        x = np.moveaxis(x, 0, 2).reshape(-1, *x.shape[3:])
        return x.T
    return x


def to_torch(x: np.ndarray, layout: str, patch: int) -> np.ndarray:
    """The inverse of `to_flax`, of arrays of the shapes that it returns."""
    if layout == "linear":
        return x.T
    if layout in ("conv", "patch_embed"):
        x = x.reshape(patch, patch, -1, x.shape[-1]) if layout == "patch_embed" else x
        return x.transpose(3, 2, 0, 1)
    if layout == "transposed_conv":
        return x.transpose(0, 3, 1, 2)
    if layout == "pixels":
        x = x.T
        x = x.reshape(patch, patch, -1, *x.shape[1:])
        return np.moveaxis(x, 2, 0).reshape(-1, *x.shape[3:])
    return x


# ---------------------------------------------------------------- the table


def _affine(torch_name: str, path: tuple[str, ...], layout="linear", layer=None, bias=True):
    entries = [Entry(f"{torch_name}.weight", (*path, "kernel"), layer, layout)]
    if bias:
        bias_layout = "pixels" if layout == "pixels" else "vector"
        entries.append(Entry(f"{torch_name}.bias", (*path, "bias"), layer, bias_layout))
    return entries


def _norm(torch_name: str, path: tuple[str, ...], layer=None):
    return [
        Entry(f"{torch_name}.weight", (*path, "scale"), layer, "vector"),
        Entry(f"{torch_name}.bias", (*path, "bias"), layer, "vector"),
    ]


def _blocks(torch_name: str, path: tuple[str, ...], depth: int, cross: bool):
    """A stack of transformer blocks; ``cross``: with cross-attention."""
    linear = {"attn.qkv": "attn/qkv", "attn.proj": "attn/proj"}
    linear |= {"mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}
    norms = ["norm1", "norm2"]
    if cross:
        linear |= {f"cross_attn.proj{x}": f"cross_attn/{x}" for x in "qkv"}
        linear |= {"cross_attn.proj": "cross_attn/proj"}
        norms += ["norm3", "norm_y"]
    for i in range(depth):
        for theirs, ours in linear.items():
            yield from _affine(f"{torch_name}.{i}.{theirs}", (*path, *ours.split("/")), layer=i)
        for name in norms:
            yield from _norm(f"{torch_name}.{i}.{name}", (*path, name), layer=i)


def _skip_cnn(torch_name: str, name: str):
    for i in range(4):
        at = f"{torch_name}.skip_proj.{i}"
        yield from _affine(f"{at}.conv", ("params", name, f"conv{i}"), "conv")
        yield from _norm(f"{at}.norm", ("params", name, f"norm{i}"))
        for theirs, ours in (("running_mean", "mean"), ("running_var", "var")):
            path = ("batch_stats", name, f"norm{i}", ours)
            yield Entry(f"{at}.norm.{theirs}", path, None, "vector")


def _gaussian_head(torch_name: str, path: tuple[str, ...]):
    yield from _norm(f"{torch_name}.norm", (*path, "norm"))
    for theirs, ours in (
        ("mlp_rgb", "color"),
        ("mlp_opacity", "opacity"),
        ("mlp_scale2", "scale"),
        ("mlp_rotation", "rotation"),
    ):
        yield from _affine(f"{torch_name}.{theirs}.0", (*path, f"{ours}_fc1"), bias=False)
        yield from _affine(f"{torch_name}.{theirs}.2", (*path, f"{ours}_fc2"), "pixels", bias=False)


def _dpt_head(torch_name: str, path: tuple[str, ...]):
    at = f"{torch_name}.dpt"
    for i in range(4):
        yield from _affine(f"{at}.act_postprocess.{i}.0", (*path, f"map{i}"), "conv")
        scratch = f"{at}.scratch.layer_rn.{i}"
        yield from _affine(scratch, (*path, f"project{i}"), "conv", bias=False)
        fusion, ours = f"{at}.scratch.refinenet{i + 1}", f"fusion{i}"
        yield from _affine(f"{fusion}.out_conv", (*path, ours, "out"), "conv")
        for unit in (1, 2)[i == 3 :]:  # the coarsest has one input: its first unit is never used
            for c in ("conv1", "conv2"):
                theirs = f"{fusion}.resConfUnit{unit}.{c}"
                yield from _affine(theirs, (*path, ours, f"unit{unit}", c), "conv")
    yield from _affine(f"{at}.act_postprocess.0.1", (*path, "resize0"), "transposed_conv")
    yield from _affine(f"{at}.act_postprocess.1.1", (*path, "resize1"), "transposed_conv")
    yield from _affine(f"{at}.act_postprocess.3.1", (*path, "resize3"), "conv")
    for theirs, ours in ((0, "out0"), (2, "out1"), (4, "out2")):
        yield from _affine(f"{at}.head.{theirs}", (*path, ours), "conv")


def tensor_table(config: ModelConfig) -> list[Entry]:
    """Every tensor that the network of ``config`` reads.

    Raises:
      ValueError: the network has a part that no release has.
    """
    if not POINT_HEADS[config.head].released or config.gelu != "erf":
        raise ValueError(
            "PyTorch releases have head 'linear' or 'dpt' and gelu 'erf', "
            f"got {config.head!r} and {config.gelu!r}"
        )
    encoder, decoder = ("params", "encoder"), ("params", "decoder")
    table = _affine("patch_embed.proj", (*encoder, "patch_embed"), "patch_embed")
    table += _blocks("enc_blocks", (*encoder, "blocks"), config.enc_depth, cross=False)
    table += _norm("enc_norm", (*encoder, "norm"))
    table += _affine("decoder_embed", (*decoder, "embed"))
    table += _blocks("dec_blocks", (*decoder, "ref_blocks"), config.dec_depth, cross=True)
    table += _blocks("dec_blocks2", (*decoder, "src_blocks"), config.dec_depth, cross=True)
    if config.cross_ref:
        path = (*decoder, "cross_ref_blocks")
        table += _blocks("dec_same_view_blocks", path, config.dec_depth, cross=True)
    table += _norm("dec_norm", (*decoder, "norm"))
    for i, role in enumerate(("ref", "src")):
        name, path = f"downstream_head{i + 1}", ("params", f"{role}_point_head")
        if config.head == "dpt":
            table += _dpt_head(name, path)
        else:
            table += _affine(f"{name}.proj", (*path, "proj"), "pixels")
        if config.skip:
            table += _skip_cnn(name, f"{role}_skip_cnn")
        if config.gaussians:
            gaussian = ("params", f"{role}_gaussian_head")
            table += _gaussian_head(f"downstream_GS_head.{i}", gaussian)
    return table
