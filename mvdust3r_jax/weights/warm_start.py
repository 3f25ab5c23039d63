"""A network that starts from another one's weights: CroCo's, a release's, or ours.

What the other does not have keeps its fresh values, and a report says what came from where.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.weights import port
from mvdust3r_jax.weights.torch_layout import tensor_table


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
) -> tuple[port.Tree, WarmStart]:
    """Starts a network from another one's weights, keeping the fresh values of its new parts.

    Args:
      variables: freshly initialized variables of the network of ``config``.
      source: a PyTorch state dict (CroCo, DUSt3R, MV-DUSt3R), or our own variables of a network of
        the same sizes; its patches may be smaller, by a whole factor (``larger_patches``), and its
        stacks of layers less deep (``deeper_stacks``). CroCo has one decoder: the reference blocks
        start the source blocks too.
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
    source["params"] = deeper_stacks(larger_patches(source["params"], config), own["params"])
    return _merge(own, source, copied=set(), unused=[])


def deeper_stacks(params: port.Tree, fresh: port.Tree) -> port.Tree:
    """Parameters of a deeper network that do what ``params`` do: new layers pass on their input.

    Old layers are spread evenly over the new depth. The layers between them are those of ``fresh``,
    whose last products, which are added to the tokens, begin at zero: these have a gradient from
    the first step on, and the others from the second.
    """
    params = {name: dict(part) for name, part in params.items()}
    for part, stacks in _STACKS.items():
        for name in stacks & params[part].keys() & fresh[part].keys():
            params[part][name] = _deeper(params[part][name], fresh[part][name])
    return params


_STACKS = {"encoder": {"blocks"}, "decoder": {"ref_blocks", "src_blocks", "cross_ref_blocks"}}
_ADDED_TO_TOKENS = {"proj", "fc2"}


def _deeper(stack: port.Tree, fresh: port.Tree) -> port.Tree:
    """One stack; unchanged if as deep as ``fresh`` or deeper; merging refuses other shapes."""
    old, new = (len(jax.tree.leaves(tree)[0]) for tree in (stack, fresh))
    if old >= new:
        return stack
    places = np.arange(old) * new // old

    def place(path: tuple, begin: np.ndarray, layers: np.ndarray) -> np.ndarray:
        if np.shape(begin)[1:] != np.shape(layers)[1:]:
            return layers
        added = bool(_ADDED_TO_TOKENS & {key.key for key in path})
        placed = np.zeros(np.shape(begin), layers.dtype) if added else np.array(begin)
        placed[places] = layers
        return placed

    return jax.tree_util.tree_map_with_path(place, fresh, stack)


def larger_patches(params: port.Tree, config: ModelConfig) -> port.Tree:
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


def _init_from_torch(variables: Mapping[str, Any], source: port.StateDict, config: ModelConfig):
    table = tensor_table(config)
    copied, tensors, used, absent = set(), {}, set(), {}
    croco = not any(n.startswith("dec_blocks2.") for n in source)
    misshapen = []
    shapes = port.expected_shapes(config, table)
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
        tensors[e] = port.as_numpy(source[name])
        used.add(name)
    begun = {e.path for e in tensors}
    missing = [n for path, names in absent.items() if path in begun for n in names]
    deeper = _layers_beyond(source, config)
    port.raise_if_any(missing=missing, unexpected=deeper, misshapen=misshapen)
    if not tensors:
        raise ValueError(f"nothing in the source fits the network; it holds {list(source)[:5]} ...")
    own = {c: variables[c] for c in ("params", "batch_stats") if c in variables}
    unused = [n for n in source if n not in used]
    return _merge(own, port.build_tree(tensors, config.patch), copied=copied, unused=unused)


def _layers_beyond(source: port.StateDict, config: ModelConfig) -> list[str]:
    """Blocks of a deeper network than ours: taking its first layers would be a silent mistake."""
    depths = {"enc_blocks": config.enc_depth, "dec_blocks": config.dec_depth}
    return [
        f"{stack}: expected {depth} layers, got {port.stack_depth(source, stack)}"
        for stack, depth in depths.items()
        if port.stack_depth(source, stack) > depth
    ]


def _merge(own: port.Tree, source: port.Tree, *, copied: set[str], unused: list[str]):
    """``own`` with every leaf that ``source`` has too."""
    flat = {_join(p): x for p, x in jax.tree_util.tree_leaves_with_path(source)}
    leaves, treedef = jax.tree_util.tree_flatten_with_path(own)
    named = [(_join(p), x) for p, x in leaves]
    misshapen = [
        f"{n}: expected {np.shape(x)}, got {np.shape(flat[n])}"
        for n, x in named
        if n in flat and np.shape(flat[n]) != np.shape(x)
    ]
    port.raise_if_any(misshapen=misshapen)
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
