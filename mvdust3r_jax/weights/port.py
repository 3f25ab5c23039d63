"""Weights between the PyTorch releases (CroCo, DUSt3R, MV-DUSt3R, MV-DUSt3R+) and this package.

Both directions, and `warm_start`, read one table, ``torch_layout.tensor_table``. Arrays stay NumPy
arrays. Tensors that a release carries but no network reads (``mask_token``, counters of batch norm,
...) are kept, under their PyTorch names, in the collection ``unused``: a round trip is exact.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.weights import torch_args, torch_file
from mvdust3r_jax.weights.shapes import variable_shapes
from mvdust3r_jax.weights.torch_layout import Entry, tensor_table, to_flax, to_torch

StateDict = Mapping[str, Any]
Tree = dict[str, Any]
HEAD_WIDTH = 64  # of every release; shapes cannot tell

# Carried by releases, read by no network here: CroCo's decoder output and position table, the
# second names of the DPT projections, the idle unit of the coarsest fusion, batch-norm counters.
_UNUSED = re.compile(
    r"mask_token|enc_pos_embed|dec_pos_embed|prediction_head\..*|.*\.num_batches_tracked"
    r"|.*\.dpt\.scratch\.(layer[1-4]_rn\.weight|refinenet4\.resConfUnit1\..*)"
)


# ---------------------------------------------------------------- both directions


def config_from_torch(state_dict: StateDict) -> ModelConfig:
    """All that names and shapes tell of a network.

    Heads are taken to be 64 wide and ``conf_max`` is 1e9: shapes cannot tell these, so replace them
    (``dataclasses.replace``) where they differ.

    Raises:
      KeyError: the state dict is not one of this family; the absent tensors are named.
    """
    needed = ["patch_embed.proj.weight", "decoder_embed.weight", "enc_norm.weight"]
    heads = ["downstream_head1.proj.weight", "downstream_head1.dpt.head.4.weight"]
    absent = [n for n in needed if n not in state_dict]
    if not any(n in state_dict for n in heads):
        absent.append(" or ".join(heads))
    if absent:
        raise KeyError(f"not a DUSt3R or MV-DUSt3R(+) state dict: it lacks {', '.join(absent)}")
    enc_dim, _, patch, _ = state_dict["patch_embed.proj.weight"].shape
    dec_dim = state_dict["decoder_embed.weight"].shape[0]
    gaussian = "downstream_GS_head.0.mlp_rgb.2.weight"
    extra = {}
    if gaussian in state_dict:
        rows, hidden = state_dict[gaussian].shape
        sh_degree = math.isqrt(rows // patch**2 // 3) - 1
        extra |= dict(sh_degree=sh_degree, gaussian_hidden=hidden)
    skip = "downstream_head1.skip_proj.0.conv.weight"
    if skip in state_dict:
        extra |= dict(skip_width=state_dict[skip].shape[0])
    return ModelConfig(
        enc_dim,
        stack_depth(state_dict, "enc_blocks"),
        max(1, enc_dim // HEAD_WIDTH),
        dec_dim,
        stack_depth(state_dict, "dec_blocks"),
        max(1, dec_dim // HEAD_WIDTH),
        patch=patch,
        head="linear" if heads[0] in state_dict else "dpt",
        skip=skip in state_dict,
        gaussians=gaussian in state_dict,
        cross_ref="dec_same_view_blocks.0.norm1.weight" in state_dict,
        **extra,
    )


def stack_depth(state_dict: StateDict, name: str) -> int:
    """How many blocks of the name there are."""
    found = [re.fullmatch(rf"{name}\.(\d+)\..*", n) for n in state_dict]
    return max((int(m[1]) + 1 for m in found if m), default=0)


def torch_to_flax(state_dict: StateDict, config: ModelConfig) -> Tree:
    """Our variables from a PyTorch state dict of the same network.

    Returns:
      ``{"params": ..., "batch_stats": ..., "unused": ...}`` of NumPy arrays (empty collections are
      left out), ready for ``MVDust3r(config).apply``.

    Raises:
      ValueError: listing every missing, unexpected and misshapen tensor together.
    """
    table = tensor_table(config)
    shapes = expected_shapes(config, table)
    known = {e.torch_name for e in table}
    missing = sorted(known - set(state_dict))
    unexpected = sorted(n for n in state_dict if n not in known and not _UNUSED.fullmatch(n))
    misshapen = _misshapen(state_dict, shapes)
    raise_if_any(missing=missing, unexpected=unexpected, misshapen=misshapen)
    variables = build_tree({e: as_numpy(state_dict[e.torch_name]) for e in table}, config.patch)
    unused = {n: as_numpy(x) for n, x in state_dict.items() if n not in known}
    return variables | ({"unused": unused} if unused else {})


def flax_to_torch(variables: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """A PyTorch state dict from our variables: the exact inverse of ``torch_to_flax``.

    Raises:
      ValueError: listing every missing and unexpected entry of ``variables``.
    """
    views = torch_views(variables, config)
    return {name: np.ascontiguousarray(view) for name, view in views.items()}


def torch_views(variables: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """The same as views of the variables, which take no memory (only those of the heads do).

    Raises what `flax_to_torch` raises.
    """
    flat = {c: v for c, v in variables.items() if c in ("params", "batch_stats")}
    flat = {tuple(k.key for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(flat)}
    table = tensor_table(config)
    paths = {e.path for e in table}
    raise_if_any(
        missing=sorted("/".join(p) for p in paths - set(flat)),
        unexpected=sorted("/".join(p) for p in set(flat) - paths),
    )
    flat = {path: np.asarray(x) for path, x in flat.items()}
    state = {}
    for e in table:
        x = flat[e.path] if e.layer is None else flat[e.path][e.layer]
        state[e.torch_name] = to_torch(x, e.layout, config.patch)
    return state | {n: np.asarray(x) for n, x in variables.get("unused", {}).items()}


def as_numpy(x: Any) -> np.ndarray:
    """NumPy's view of a tensor (torch's too, without importing torch)."""
    return x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)


def build_tree(tensors: Mapping[Entry, np.ndarray], patch: int) -> Tree:
    """Our nested tree from PyTorch tensors, layers stacked; copies, one entry at a time."""
    grouped: dict[tuple[str, ...], dict[int | None, Entry]] = {}
    for e in tensors:
        grouped.setdefault(e.path, {})[e.layer] = e
    tree: Tree = {}
    for path, entries in grouped.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        parts = [to_flax(tensors[e], e.layout, patch) for e in entries.values()]
        node[path[-1]] = parts[0].copy(order="C") if None in entries else _stack(parts)
        # What has been copied need no longer be held in memory for a mapped file.
        torch_file.release(tensors[e] for e in entries.values())
    return tree


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """Stacked in C order, which transposed parts would not give by themselves."""
    whole = np.empty((len(parts), *parts[0].shape), parts[0].dtype)
    return np.stack(parts, out=whole)


def expected_shapes(config: ModelConfig, table: list[Entry]) -> dict[str, tuple[int, ...]]:
    """PyTorch's shape of every tensor of the table."""
    ours = variable_shapes(config)
    shapes = {}
    for e in table:
        shape = ours["/".join(e.path)][e.layer is not None :]
        # A stand-in without memory: only its shape is permuted.
        stand_in = np.broadcast_to(np.float32(0), shape)
        shapes[e.torch_name] = to_torch(stand_in, e.layout, config.patch).shape
    return shapes


def _misshapen(state_dict: StateDict, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [
        f"{name}: expected {shape}, got {tuple(state_dict[name].shape)}"
        for name, shape in sorted(shapes.items())
        if name in state_dict and tuple(state_dict[name].shape) != shape
    ]


def raise_if_any(**problems: list[str]) -> None:
    """ValueError listing all problems by kind, if there is any."""
    lines = [f"{kind} ({len(n)}):\n    " + "\n    ".join(n) for kind, n in problems.items() if n]
    if lines:
        raise ValueError("the weights do not fit the network\n  " + "\n  ".join(lines))


# ---------------------------------------------------------------- files


def load_torch_checkpoint(
    path: str | os.PathLike, ignore_objects: bool = False
) -> tuple[dict[str, np.ndarray], ModelConfig]:
    """Reads a released ``.pth`` (or ``.safetensors``) file without torch.

    ignore_objects: see `torch_file.read`.

    Returns:
      The state dict, and the config of names, shapes and the file's constructor string.
    """
    state_dict, fields = torch_args.load_checkpoint(path, ignore_objects)
    return state_dict, replace(config_from_torch(state_dict), **fields)
