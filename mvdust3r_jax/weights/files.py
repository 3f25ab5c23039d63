"""Weights of a network in files: ``.pth`` (PyTorch), ``.safetensors``, and orbax folders.

Our own safetensors and orbax files store our variables under their paths ("params/encoder/...") and
the `ModelConfig` as JSON beside them; safetensors files with PyTorch's names are read as well, and
so is the folder of a training run. Saved in half precision or not, weights load as float32.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.atomic import whole_file_or_folder
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.weights import (
    folders,
    port,
    safetensors_file,
    torch_args,
    torch_file,
    torch_writer,
)
from mvdust3r_jax.weights.contents import (
    TrainedOn,
    Variables,
    WeightsError,
    as_float32,
    check_finite,
    check_real,
    checked,
    config_from_json,
    config_json,
    leaves,
)

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
_CONFIG_KEY = "config"


# ---------------------------------------------------------------- reading


def load_weights(
    path: str | os.PathLike, ignore_objects: bool = False
) -> tuple[ModelConfig, Variables]:
    """Network and weights of any file or folder that this package, or a release, has written.

    ignore_objects: pass over objects of unknown classes in ``.pth`` files; nothing of them runs.

    Returns:
      The config, and ``{"params", "batch_stats"}`` as float32 NumPy arrays, checked to be exactly
      what the network has. Of a training run: the best (else newest) checkpoint, averaged weights
      where it keeps them.

    Raises:
      FileNotFoundError, or WeightsError (a ValueError) saying what is wrong with the file.
    """
    path = places.as_path(path)
    config, variables = _read(path, ignore_objects)
    variables = {k: as_float32(v) for k, v in variables.items() if k != "unused"}
    check_finite(path, variables)
    return config, variables


def _read(path: AnyPath, ignore_objects: bool = False) -> tuple[ModelConfig, Variables]:
    """Config and variables as stored, with what a release carries besides (``unused``)."""
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}")
    file = path
    try:
        if path.is_dir():
            config, variables = folders.read(path)
        else:
            with places.local_copy(path) as file:
                config, variables = _read_file(file, ignore_objects)
        check_real(variables)
        return config, variables
    except (torch_file.TorchFileError, safetensors_file.SafetensorsFileError) as error:
        message = str(error).replace(str(file), str(path))
        told = WeightsError(message if str(path) in message else f"{path}: {message}")
        told.__notes__ = getattr(error, "__notes__", [])
        raise told from error
    except (KeyError, ValueError) as error:
        # The text of a KeyError has quotation marks around it.
        told = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise WeightsError(f"{path}: {told}") from error


def _read_file(path: AnyPath, ignore_objects: bool) -> tuple[ModelConfig, Variables]:
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return _from_torch(*port.load_torch_checkpoint(path, ignore_objects))


def trained_on(path: str | os.PathLike, ignore_objects: bool = False) -> TrainedOn:
    """What the weights were trained on, as far as the file says so (PyTorch's: the size alone)."""
    path = places.as_path(path)
    try:
        if path.is_dir():
            return folders.trained_on(path)
        with places.local_copy(path) as file:
            return _told_by_file(file, ignore_objects)
    except ValueError as error:
        told = str(error)
        raise WeightsError(told if str(path) in told else f"{path}: {told}") from error


def _told_by_file(path: AnyPath, ignore_objects: bool) -> TrainedOn:
    if path.suffix.lower() == ".safetensors":
        told = TrainedOn.from_texts(safetensors_file.read(path)[1])
        return told if told.image_size else told._replace(image_size=torch_args.image_size(path))
    return TrainedOn(torch_args.image_size(path, ignore_objects))


def digest(path: str | os.PathLike) -> str:
    """What tells weights apart: 16 hexadecimal digits of the content, wherever it lies.

    Of a training run it is that of the checkpoint that `load_weights` takes.
    """
    path = places.as_path(path)
    if path.is_dir():
        path = folders.checkpoint_of_run(path) or path
    files = places.files_below(path) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()[:16]


def load_source(path: str | os.PathLike) -> Mapping[str, Any]:
    """What `warm_start` starts a network from: PyTorch's tensors by name, or our variables.

    Unlike `load_weights` it takes files of other networks of the family, such as CroCo.
    """
    path = places.as_path(path)
    if path.is_dir():
        return load_weights(path)[1]
    with places.local_copy(path) as file:
        if file.suffix.lower() == ".safetensors" and _own_config(file) is not None:
            return load_weights(file)[1]
        return torch_args.load_checkpoint(file)[0]


def _own_config(path: AnyPath) -> str | None:
    """The config inside our own safetensors files, None in those of others."""
    return safetensors_file.read(path)[1].get(_CONFIG_KEY)


def _from_torch(state: Mapping[str, np.ndarray], config: ModelConfig):
    return config, port.torch_to_flax(state, config)


def _read_safetensors(path: AnyPath) -> tuple[ModelConfig, Variables]:
    text = _own_config(path)
    if text is None:
        return _from_torch(*port.load_torch_checkpoint(path))
    config, flat = config_from_json(text), safetensors_file.read(path)[0]
    variables: Variables = {}
    for name, array in flat.items():
        collection, _, rest = name.partition("/")
        # Names of unused PyTorch tensors hold no slash but dots, and are keys as they are.
        keys = [collection, *rest.split("/")]
        node = variables
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = array
    return config, checked(variables, config)


# ---------------------------------------------------------------- writing


def save_weights(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    config: ModelConfig,
    dtype: str = "float32",
    image_size: tuple[int, int] | None = None,
    views: int | None = None,
    replace: bool = False,
) -> None:
    """Write a network's weights; the name's ending decides the format (none: an orbax folder).

    The file or folder appears only when it is complete; a file is replaced, a folder only if
    ``replace`` says so and nothing but weights lies in it. ``dtype`` is that of the stored
    parameters; batch statistics stay float32. ``image_size`` (height, width) and the number of
    ``views``, what the network was trained on (`TrainedOn`), are kept with them. ``.pth`` files
    have the layout of the releases, which has no place for the views.

    Raises:
      ValueError: an unknown ending or dtype, or (`WeightsError`) values that are not finite in
      half precision. FileExistsError: a folder is there already.
    """
    path = places.as_path(path)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    write = _writer_for(path, replace)
    stored = {k: jax.tree.map(np.asarray, v) for k, v in variables.items()}
    with np.errstate(over="ignore"):  # what overflows is found below
        kind = DTYPES[dtype]
        stored["params"] = jax.tree.map(lambda x: x.astype(kind, copy=False), stored["params"])
    if dtype != "float32":
        check_finite(f"{path}, as {dtype}", {"params": stored["params"]})
    with places.local_result(path) as file, whole_file_or_folder(file) as partial:
        write(partial, stored, config, TrainedOn(image_size, views))


def _writer_for(path: AnyPath, replace: bool):
    if path.suffix and path.is_dir():
        raise FileExistsError(f"{path} is a folder; a file is to be written there")
    if path.suffix.lower() in TORCH_SUFFIXES:
        return _write_torch
    if path.suffix.lower() == ".safetensors":
        return _write_safetensors
    if path.suffix:
        known = ", ".join([*TORCH_SUFFIXES, ".safetensors"])
        raise ValueError(f"{path}: weights are written as {known}, or a folder (no ending)")
    if path.exists() and not (replace and not places.is_remote(path) and folders.is_ours(path)):
        raise FileExistsError(f"{path} exists; an orbax folder is written to a new place")
    return folders.write


def _write_safetensors(
    path: AnyPath, variables: Variables, config: ModelConfig, trained: TrainedOn
) -> None:
    flat = {"/".join(str(k.key) for k in keys): x for keys, x in leaves(variables)}
    metadata = {_CONFIG_KEY: config_json(config), **trained.texts()}
    safetensors_file.write(path, flat, metadata)


def _write_torch(
    path: AnyPath, variables: Variables, config: ModelConfig, trained: TrainedOn
) -> None:
    arguments = argparse.Namespace(model=torch_args.constructor(config, trained.image_size))
    # Views: each tensor is laid out as it is written, so that no second copy of all is in memory.
    state = port.torch_views(variables, config)
    own = torch_args.own_fields(config)
    torch_writer.write(path, {"model": state, "args": arguments} | own)


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    dtype: str = "float32",
    ignore_objects: bool = False,
    replace: bool = False,
) -> ModelConfig:
    """Rewrite weights in the format that the target's name asks for; PyTorch round trips exactly.

    ignore_objects: as for `load_weights`. What a release carries and no network reads is kept
    between ``.pth`` and ``.safetensors``. replace: and errors, as for `save_weights`.

    Returns:
      The network's config.
    """
    config, variables = _read(places.as_path(source), ignore_objects)
    variables = {k: v if k == "unused" else as_float32(v) for k, v in variables.items()}
    check_finite(source, {k: v for k, v in variables.items() if k != "unused"})
    trained = trained_on(source, ignore_objects)
    save_weights(target, variables, config, dtype, *trained, replace=replace)
    return config
