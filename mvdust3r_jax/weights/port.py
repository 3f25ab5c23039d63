"""Weights between the PyTorch releases (CroCo, DUSt3R, MV-DUSt3R, MV-DUSt3R+) and this package.

Both directions and the warm start read one table, ``torch_layout.tensor_table``. Arrays stay NumPy
arrays. Tensors that a release carries but no network reads (``mask_token``, counters of batch norm,
...) are kept, under their PyTorch names, in the collection ``unused``: a round trip is exact.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        _depth(state_dict, "enc_blocks"),
        max(1, enc_dim // HEAD_WIDTH),
        dec_dim,
        _depth(state_dict, "dec_blocks"),
        max(1, dec_dim // HEAD_WIDTH),
        patch=patch,
        head="linear" if heads[0] in state_dict else "dpt",
        skip=skip in state_dict,
        gaussians=gaussian in state_dict,
        cross_ref="dec_same_view_blocks.0.norm1.weight" in state_dict,
        **extra,
    )


def _depth(state_dict: StateDict, name: str) -> int:
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
    shapes = _expected_shapes(config, table)
    known = {e.torch_name for e in table}
    missing = sorted(known - set(state_dict))
    unexpected = sorted(n for n in state_dict if n not in known and not _UNUSED.fullmatch(n))
    misshapen = _misshapen(state_dict, shapes)
    _raise_if_any(missing=missing, unexpected=unexpected, misshapen=misshapen)
    variables = _build({e: _numpy(state_dict[e.torch_name]) for e in table}, config.patch)
    unused = {n: _numpy(x) for n, x in state_dict.items() if n not in known}
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
    _raise_if_any(
        missing=sorted("/".join(p) for p in paths - set(flat)),
        unexpected=sorted("/".join(p) for p in set(flat) - paths),
    )
    flat = {path: np.asarray(x) for path, x in flat.items()}
    state = {}
    for e in table:
        x = flat[e.path] if e.layer is None else flat[e.path][e.layer]
        state[e.torch_name] = to_torch(x, e.layout, config.patch)
    return state | {n: np.asarray(x) for n, x in variables.get("unused", {}).items()}


def _numpy(x: Any) -> np.ndarray:
    """NumPy's view of a tensor (torch's too, without importing torch)."""
    return x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)


def _build(tensors: Mapping[Entry, np.ndarray], patch: int) -> Tree:
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


def _expected_shapes(config: ModelConfig, table: list[Entry]) -> dict[str, tuple[int, ...]]:
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


def _raise_if_any(**problems: list[str]) -> None:
    lines = [f"{kind} ({len(n)}):\n    " + "\n    ".join(n) for kind, n in problems.items() if n]
    if lines:
        raise ValueError("the weights do not fit the network\n  " + "\n  ".join(lines))


# ---------------------------------------------------------------- warm start


@dataclass(frozen=True)
class WarmStart:
    """Where each part of a warm-started network came from (our paths; PyTorch names for unused)."""

    taken: tuple[str, ...]
    copied: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """One line for each origin: how many entries, and the parts they belong to."""
        lines = []
        for name in ("taken", "copied", "fresh", "unused"):
            entries = getattr(self, name)
            parts = sorted({_part(e) for e in entries})
            lines.append(f"{name}: {len(entries)} entries ({', '.join(parts) or 'none'})")
        return "\n".join(lines)


def _part(entry: str) -> str:
    keys = entry.split("/")[1:] if "/" in entry else entry.split(".")[:1]
    return "/".join(keys[:2]) if keys[0] in ("encoder", "decoder") else keys[0]


def init_from(
    variables: Mapping[str, Any], source: Mapping[str, Any], config: ModelConfig
) -> tuple[Tree, WarmStart]:
    """Starts a network from another one's weights, keeping the fresh values of its new parts.

    Args:
      variables: freshly initialized variables of the network of ``config``.
      source: a PyTorch state dict (CroCo, DUSt3R, MV-DUSt3R), or our own variables of a network of
        the same sizes; its patches may be smaller, by a whole factor (``larger_patches``). CroCo
        has one decoder: the reference blocks start the source blocks too.
      config: of the network to start.

    Returns:
      The started variables, and what came from where.

    Raises:
      ValueError: listing every tensor present with another shape, and stacks present in part.
    """
    if "params" not in source:
        return _init_from_torch(variables, source, config)
    own = {c: variables[c] for c in ("params", "batch_stats") if c in variables}
    source = {k: source[k] for k in own if k in source}
    source["params"] = larger_patches(source["params"], config)
    return _merge(own, source, copied=set(), unused=[])


def larger_patches(params: Tree, config: ModelConfig) -> Tree:
    """Parameters that do on images ``f`` times as large what ``params`` do on their means.

    Patches of the network of ``config`` are ``f`` times as high and wide as those of ``params``:
    the embedding of a patch is that of its ``f x f`` means, and the linear point head gives each of
    these pixels the same point. A conv head starts from a linear one. Gaussian heads are left out
    if ``f`` is not 1: how large a pixel's Gaussian is depends on it.
    """
    rows = np.shape(params["encoder"]["patch_embed"]["kernel"])[0]
    old = math.isqrt(rows // 3)
    factor, rest = divmod(config.patch, old)
    params = {name: dict(part) for name, part in params.items()}
    for name in ("ref_point_head", "src_point_head"):
        if config.head == "conv" and "proj" in params[name]:
            params[name] = {"linear": params[name]}
    if rest or factor == 1:
        return params
    embed, patch = params["encoder"]["patch_embed"], (old, old)
    kernel = np.reshape(embed["kernel"], (*patch, 3, -1))
    kernel = _repeated(kernel, factor, 0).reshape(factor**2 * rows, -1) / factor**2
    params["encoder"]["patch_embed"] = {"kernel": kernel, "bias": embed["bias"]}
    for name in ("ref_point_head", "src_point_head"):
        head = params[name].get("linear", params[name])
        if "proj" in head:
            head = {
                k: _repeated(np.reshape(x, (*np.shape(x)[:-1], *patch, 4)), factor, np.ndim(x) - 1)
                for k, x in head["proj"].items()
            }
            head = {"proj": {k: x.reshape(*x.shape[:-3], -1) for k, x in head.items()}}
            params[name] = {"linear": head} if "linear" in params[name] else head
    return {name: part for name, part in params.items() if not name.endswith("_gaussian_head")}


def _repeated(x: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Each entry ``factor`` times along the axis and the one after it."""
    return x.repeat(factor, axis=axis).repeat(factor, axis=axis + 1)


def _init_from_torch(variables: Mapping[str, Any], source: StateDict, config: ModelConfig):
    table = tensor_table(config)
    copied, tensors, used, absent = set(), {}, set(), {}
    croco = not any(n.startswith("dec_blocks2.") for n in source)
    misshapen = []
    shapes = _expected_shapes(config, table)
    for e in table:
        name = e.torch_name
        if croco and name.startswith("dec_blocks2."):
            name = name.replace("dec_blocks2.", "dec_blocks.", 1)
            copied.add("/".join(e.path))
        if name not in source:
            absent.setdefault(e.path, []).append(name)
            continue
        if tuple(source[name].shape) != shapes[e.torch_name]:
            got, want = tuple(source[name].shape), shapes[e.torch_name]
            misshapen.append(f"{name}: expected {want}, got {got}")
        tensors[e] = _numpy(source[name])
        used.add(name)
    begun = {e.path for e in tensors}
    missing = [n for path, names in absent.items() if path in begun for n in names]
    deeper = _layers_beyond(source, config)
    _raise_if_any(missing=missing, unexpected=deeper, misshapen=misshapen)
    if not tensors:
        raise ValueError(f"nothing in the source fits the network; it holds {list(source)[:5]} ...")
    own = {c: variables[c] for c in ("params", "batch_stats") if c in variables}
    unused = [n for n in source if n not in used]
    return _merge(own, _build(tensors, config.patch), copied=copied, unused=unused)


def _layers_beyond(source: StateDict, config: ModelConfig) -> list[str]:
    """Blocks of a deeper network than ours: taking its first layers would be a silent mistake."""
    depths = {"enc_blocks": config.enc_depth, "dec_blocks": config.dec_depth}
    return [
        f"{stack}: expected {depth} layers, got {_depth(source, stack)}"
        for stack, depth in depths.items()
        if _depth(source, stack) > depth
    ]


def _merge(own: Tree, source: Tree, *, copied: set[str], unused: list[str]):
    """``own`` with every leaf that ``source`` has too."""
    flat = {_join(p): x for p, x in jax.tree_util.tree_leaves_with_path(source)}
    leaves, treedef = jax.tree_util.tree_flatten_with_path(own)
    named = [(_join(p), x) for p, x in leaves]
    misshapen = [
        f"{n}: expected {np.shape(x)}, got {np.shape(flat[n])}"
        for n, x in named
        if n in flat and np.shape(flat[n]) != np.shape(x)
    ]
    _raise_if_any(misshapen=misshapen)
    names = {n for n, _ in named}
    report = WarmStart(
        taken=tuple(n for n in names if n in flat and n not in copied),
        copied=tuple(n for n in names if n in flat and n in copied),
        fresh=tuple(n for n in names if n not in flat),
        unused=tuple(unused) + tuple(n for n in flat if n not in names),
    )
    merged = [flat.get(n, x) for n, x in named]
    return jax.tree_util.tree_unflatten(treedef, merged), report


def _join(path: tuple) -> str:
    return "/".join(key.key for key in path)


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
