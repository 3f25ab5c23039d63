"""What a checkpoint of the PyTorch releases says about its network besides names and shapes.

Its ``args.model`` is the source text of a constructor call, such as ``Net(head_type='linear',
sh_degree=0, conf_mode=('exp', 1, inf))``. It is parsed as a literal and never evaluated.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.weights import safetensors_file
from mvdust3r_jax.weights.torch_file import TorchFileError, read

_CONSTANTS = {"inf": math.inf, "nan": math.nan}
# Under these keys the releases (and many trainers) keep the network's tensors.
_STATE_KEYS = ("model", "state_dict", "model_state_dict")
# Constructor arguments and the fields of ModelConfig that they are. Only the last three are read:
# no tensor tells the numbers of heads; shapes tell the SH degree where there are Gaussians.
_FIELD_OF = {
    "enc_embed_dim": "enc_dim",
    "enc_depth": "enc_depth",
    "dec_embed_dim": "dec_dim",
    "dec_depth": "dec_depth",
    "head_type": "head",
    "GS": "gaussians",
    "m_ref_flag": "cross_ref",
    "enc_num_heads": "enc_heads",
    "dec_num_heads": "dec_heads",
    "sh_degree": "sh_degree",
}
_READ = ("enc_num_heads", "dec_num_heads", "sh_degree")
# What the releases have fixed and networks trained here may have otherwise is kept in files of ours
# under a key of its own, which PyTorch's programs pass over.
_OWN_KEY = "mvdust3r_jax"
# What PyTorch's wrappers put before the names of a network's tensors.
_WRAPPED = re.compile(r"^(module\.|_orig_mod\.)+")


def load_checkpoint(
    path: str | os.PathLike, ignore_objects: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The network's tensors by name (views of the mapped file), and the ModelConfig fields known.

    The fields (heads, SH degree, ``conf_max``) come from the constructor string or CroCo's
    ``croco_kwargs``, where the file has one, and from what `own_fields` has added; those of
    ``.safetensors`` files from a JSON file `beside` them. Raises TorchFileError for files that
    hold no network. ignore_objects: see `torch_file.read`.
    """
    if Path(path).suffix.lower() == ".safetensors":
        return _unwrapped(safetensors_file.read(path)[0]), _fields_beside(Path(path))
    checkpoint = read(path, ignore_objects)
    if not isinstance(checkpoint, dict):
        raise TorchFileError(f"{path} holds a {type(checkpoint).__name__}, not a network's tensors")
    state = next((checkpoint[k] for k in _STATE_KEYS if k in checkpoint), checkpoint)
    if not isinstance(state, dict):
        raise TorchFileError(f"{path}: its network is a {type(state).__name__}, not named tensors")
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
    if not tensors:
        raise TorchFileError(f"{path} holds no tensors; its keys are {sorted(map(str, state))[:8]}")
    try:
        fields = config_fields(_constructor_arguments(checkpoint))
        return _unwrapped(tensors), fields | _fields_kept(checkpoint.get(_OWN_KEY))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from error


def _unwrapped(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Under the names that the network itself gives them."""
    return {_WRAPPED.sub("", name): tensor for name, tensor in tensors.items()}


def image_size(path: str | os.PathLike, ignore_objects: bool = False) -> tuple[int, int] | None:
    """The constructor's ``img_size`` (height, width), where the file says it, or one beside it."""
    if Path(path).suffix.lower() == ".safetensors":
        arguments = beside(Path(path))
    else:
        checkpoint = read(path, ignore_objects)
        arguments = _constructor_arguments(checkpoint) if isinstance(checkpoint, dict) else {}
    size = arguments.get("img_size")
    return tuple(size) if isinstance(size, tuple | list) and len(size) == 2 else None


def beside(path: Path) -> dict[str, Any]:
    """The constructor's arguments in ``NAME.json`` or ``config.json`` beside ``NAME.safetensors``.

    Model hubs store a network so. A file that is no such thing says nothing.
    """
    for place in (path.with_suffix(".json"), path.with_name("config.json")):
        try:
            arguments = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(arguments, dict) and "conf_mode" in arguments:
            return arguments
    return {}


def _fields_beside(path: Path) -> dict[str, Any]:
    try:
        return config_fields(beside(path))
    except (ValueError, TypeError, IndexError) as error:
        raise TorchFileError(f"the JSON beside {path}: {error}") from error


def _constructor_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    arguments = checkpoint.get("args")
    text = arguments.get("model") if isinstance(arguments, Mapping) else None
    if isinstance(text, str) and "(" in text:
        return parse_constructor(text)[1]
    croco = checkpoint.get("croco_kwargs")
    return dict(croco) if isinstance(croco, Mapping) else {}


def parse_constructor(text: str) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments of a constructor call; ValueError where it is anything else."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"the constructor string {text[:80]!r} is no Python call") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
        raise ValueError(f"the constructor string {text[:80]!r} is no call with keywords only")
    try:
        return call.func.id, {k.arg: _literal(k.value) for k in call.keywords if k.arg is not None}
    # Names that no dict can have, the negative of a text.
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the constructor string {text[:80]!r}: {error}") from error


def _literal(node: ast.expr) -> Any:
    """Numbers, strings, booleans, None, inf, nan, their negatives, tuples, lists and dicts."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError("the constructor string holds '**', which is no literal")
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values, strict=True)}
    raise ValueError(
        f"the constructor string holds {ast.unparse(node)[:60]!r}, which is no literal"
    )


def config_fields(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The ModelConfig fields that are taken from the constructor's keyword arguments.

    Raises ValueError for what this network cannot be: other position embeddings than RoPE with
    base 100, or other depth and confidence modes than ('exp', ...).
    """
    fields = {_FIELD_OF[name]: arguments[name] for name in _READ if name in arguments}
    position = arguments.get("pos_embed", "RoPE100")
    if position != "RoPE100":
        raise ValueError(f"its position embedding is {position!r}; this network has RoPE100 only")
    for key in ("depth_mode", "conf_mode"):
        mode = arguments.get(key, ("exp", 1, math.inf))
        if not isinstance(mode, tuple | list) or not mode or mode[0] != "exp":
            raise ValueError(f"its {key} is {mode!r}; this network has ('exp', ...) only")
    if "conf_mode" in arguments:
        try:
            fields["conf_max"] = float(arguments["conf_mode"][2])
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            mode = arguments["conf_mode"]
            raise ValueError(f"its conf_mode is {mode!r}, expected ('exp', 1, LIMIT)") from error
    return fields


def own_fields(config: ModelConfig) -> dict[str, Any]:
    """What a checkpoint keeps besides tensors and constructor, by key."""
    return {_OWN_KEY: {"max_scale": config.max_scale}}


def _fields_kept(kept: Any) -> dict[str, Any]:
    """The fields of `own_fields` in a file that has them."""
    if not isinstance(kept, Mapping) or "max_scale" not in kept:
        return {}
    scale = kept["max_scale"]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise ValueError(f"its max_scale is {scale!r}, expected a positive number")
    return {"max_scale": float(scale)}


def unlike_release(config: ModelConfig) -> str | None:
    """What PyTorch's release would compute otherwise than this network, in a sentence."""
    if not config.gaussians or config.max_scale == ModelConfig.max_scale:
        return None
    return (
        f"Gaussians of this network are up to {config.max_scale:g} of the scene's size; PyTorch's "
        f"release clips them at {ModelConfig.max_scale:g}"
    )


def constructor(config: ModelConfig, image_size: tuple[int, int] | None = None) -> str:
    """The constructor string of this network, as the releases write it."""
    arguments = {} if image_size is None else {"img_size": tuple(image_size)}
    arguments |= {
        "pos_embed": "RoPE100",
        "patch_embed_cls": "PatchEmbedDust3R",
        "output_mode": "pts3d",
        "depth_mode": ("exp", -math.inf, math.inf),
        "conf_mode": ("exp", 1, config.conf_max),
        **{theirs: getattr(config, ours) for theirs, ours in _FIELD_OF.items()},
        "pts_head_config": {"skip": config.skip},
    }
    name = "AsymmetricCroCo3DStereoMultiView"
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
