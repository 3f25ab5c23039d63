"""Weights of a network in files: ``.pth`` (PyTorch), ``.safetensors``, and orbax folders.

Our own safetensors and orbax files store our variables under their paths ("params/encoder/...") and
the `ModelConfig` as JSON beside them; safetensors files with PyTorch's names are read as well, and
so is the folder of a training run. Saved in half precision or not, weights load as float32.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from mvdust3r_jax.models.config import COMPUTE_FIELDS, ModelConfig
from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.weights import port, safetensors_file, torch_args, torch_file, torch_writer
from mvdust3r_jax.weights.shapes import variable_shapes

Variables = dict[str, Any]

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
_CONFIG_KEY, _SIZE_KEY = "config", "image_size"
_CONFIG_FILE, _SIZE_FILE, _VARIABLES_FOLDER = "config.json", "image_size.json", "variables"


class WeightsError(ValueError):
    """A weight file that cannot be used; the message says why and what to do."""


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
    variables = {k: _float32(v) for k, v in variables.items() if k != "unused"}
    _check_finite(path, variables)
    return config, variables


def _check_finite(path: AnyPath, variables: Variables) -> None:
    """WeightsError naming the first weights that are not finite numbers."""
    for keys, array in _leaves(variables):
        # The extremes carry NaN and infinity, and take no memory.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            name = "/".join(str(k.key) for k in keys)
            raise WeightsError(f"{path}: {name} has values that are not finite numbers")


def _read(path: AnyPath, ignore_objects: bool = False) -> tuple[ModelConfig, Variables]:
    """Config and variables as stored, with what a release carries besides (``unused``)."""
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}")
    file = path
    try:
        if path.is_dir():
            return _read_folder(path)
        with places.local_copy(path) as file:
            return _read_file(file, ignore_objects)
    except (torch_file.TorchFileError, safetensors_file.SafetensorsFileError) as error:
        message = str(error).replace(str(file), str(path))
        told = WeightsError(message if str(path) in message else f"{path}: {message}")
        told.__notes__ = getattr(error, "__notes__", [])
        raise told from error
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: {error.args[0] if error.args else error}") from error


def _read_file(path: AnyPath, ignore_objects: bool) -> tuple[ModelConfig, Variables]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _from_torch(*port.load_torch_checkpoint(path, ignore_objects))


def image_size(path: str | os.PathLike, ignore_objects: bool = False) -> tuple[int, int] | None:
    """(height, width) of the images that the weights were trained on, where the file says so."""
    path = places.as_path(path)
    if not path.is_dir():
        with places.local_copy(path) as file:
            return _size_in_file(file, ignore_objects)
    if (path / _SIZE_FILE).is_file():
        return tuple(json.loads((path / _SIZE_FILE).read_text()))
    step = _checkpoint_of_run(path)
    if step is None:
        return None
    run = json.loads(json.loads((step / "meta" / "metadata").read_text())["config"])
    return (run["data"]["height"], run["data"]["width"]) if "data" in run else None


def _size_in_file(path: AnyPath, ignore_objects: bool) -> tuple[int, int] | None:
    if path.suffix == ".safetensors":
        text = safetensors_file.read(path)[1].get(_SIZE_KEY)
        return tuple(json.loads(text)) if text else torch_args.image_size(path)
    return torch_args.image_size(path, ignore_objects)


def digest(path: str | os.PathLike) -> str:
    """What tells weights apart: 16 hexadecimal digits of the content, wherever it lies.

    Of a training run it is that of the checkpoint that `load_weights` takes.
    """
    path = places.as_path(path)
    if path.is_dir():
        path = _checkpoint_of_run(path) or path
    files = places.files_below(path) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()[:16]


def load_source(path: str | os.PathLike) -> Mapping[str, Any]:
    """What `port.init_from` starts a network from: PyTorch's tensors by name, or our variables.

    Unlike `load_weights` it takes files of other networks of the family, such as CroCo.
    """
    path = places.as_path(path)
    if path.is_dir():
        return load_weights(path)[1]
    with places.local_copy(path) as file:
        if file.suffix == ".safetensors" and _own_config(file) is not None:
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
    config, flat = _config_from_json(text), safetensors_file.read(path)[0]
    variables: Variables = {}
    for name, array in flat.items():
        collection, _, rest = name.partition("/")
        # Names of unused PyTorch tensors hold no slash but dots, and are keys as they are.
        keys = [collection, *rest.split("/")]
        node = variables
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = array
    return config, _checked(variables, config)


def _read_folder(path: AnyPath) -> tuple[ModelConfig, Variables]:
    """Our orbax folder, or a training run's working directory or one of its checkpoints."""
    if (path / _CONFIG_FILE).is_file():
        config = _config_from_json((path / _CONFIG_FILE).read_text())
        return config, _checked(_restore(path / _VARIABLES_FOLDER, config, "params"), config)
    step = _checkpoint_of_run(path)
    if step is None:
        raise ValueError(f"the folder holds neither {_CONFIG_FILE} nor a training run's checkpoint")
    meta = json.loads((step / "meta" / "metadata").read_text())
    config = _config_from_json(json.dumps(meta["model"]))
    params_key = "average" if _holds(step / "state", "average") else "params"
    variables = _restore(step / "state", config, params_key)
    return config, _checked(variables, config)


def _checkpoint_of_run(path: AnyPath) -> AnyPath | None:
    """The folder of a checkpoint: ``path`` itself, or its best one, else its newest.

    One that was found the best on the split test is passed over: it has seen what it is tested on.
    """
    if (path / "meta" / "metadata").is_file():
        return path
    for folder in (path / "best", path / "checkpoints", path):
        steps = [meta.parents[1] for meta in folder.glob("*/meta/metadata")]
        numbered = [step for step in steps if step.name.isdigit() and _is_whole(step)]
        if folder.name == "best" and any(map(_chosen_on_test, numbered)):
            continue
        if numbered:
            return max(numbered, key=lambda step: int(step.name))
    return None


def _chosen_on_test(step: AnyPath) -> bool:
    """Whether the first set of ``config.eval``, which decides, is of the split test."""
    try:
        meta = json.loads((step / "meta" / "metadata").read_text())
        sets = json.loads(meta["config"])["eval"]
        return next(iter(sets.values()))["split"] == "test"
    except (ValueError, KeyError, StopIteration):
        return False  # of another version, whose own reader says what is wrong


def _is_whole(step: AnyPath) -> bool:
    """In a bucket nothing can be renamed into its place: a file that is written last tells."""
    return not places.is_remote(step) or (step / "commit_success.txt").exists()


def _restore(folder: AnyPath, config: ModelConfig, params_key: str) -> Variables:
    """Parameters (under the given name) and batch statistics, nothing else of the folder."""
    # orbax takes a second to import, and only these folders need it.
    import orbax.checkpoint as ocp

    from mvdust3r_jax.models.mvdust3r import abstract_variables

    abstract = abstract_variables(config)
    wanted = {params_key: abstract["params"]}
    if "batch_stats" in abstract:
        wanted["batch_stats"] = abstract["batch_stats"]
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    restore = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
    with ocp.PyTreeCheckpointer() as checkpointer:
        restored = checkpointer.restore(places.absolute(folder), args=restore)
    restored["params"] = restored.pop(params_key)
    return restored


def _holds(folder: AnyPath, key: str) -> bool:
    """Whether a checkpoint has anything under the key."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(places.absolute(folder)).item_metadata.tree
    return bool(tree.get(key))


def _checked(variables: Variables, config: ModelConfig) -> Variables:
    """The variables, if they are exactly the network's; ValueError listing all differences."""
    found = {"/".join(str(k.key) for k in path): tuple(x.shape) for path, x in _leaves(variables)}
    found = {name: shape for name, shape in found.items() if not name.startswith("unused/")}
    wanted = variable_shapes(config)
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(found))]
    problems += [f"unexpected {name}" for name in sorted(set(found) - set(wanted))]
    problems += [
        f"{name}: expected {shape}, got {found[name]}"
        for name, shape in sorted(wanted.items())
        if name in found and found[name] != shape
    ]
    if problems:
        raise ValueError("the weights do not fit their config:\n  " + "\n  ".join(problems))
    return variables


def _leaves(tree: Variables) -> list:
    return jax.tree_util.tree_leaves_with_path(tree)


def _config_from_json(text: str) -> ModelConfig:
    fields = json.loads(text)
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if not isinstance(fields, dict) or set(fields) - known:
        unknown = sorted(set(fields) - known) if isinstance(fields, dict) else text[:80]
        raise ValueError(f"the config in the file is not understood: {unknown}")
    return ModelConfig(**{k: v for k, v in fields.items() if k not in COMPUTE_FIELDS})


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)


# ---------------------------------------------------------------- writing


def save_weights(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    config: ModelConfig,
    dtype: str = "float32",
    image_size: tuple[int, int] | None = None,
) -> None:
    """Write a network's weights; the name's ending decides the format (none: an orbax folder).

    The file or folder appears only when it is complete. ``dtype`` is that of the stored
    parameters; batch statistics stay float32. ``image_size`` (height, width), what the network
    was trained on, is kept with them. ``.pth`` files have the layout of the releases.

    Raises:
      ValueError: an unknown ending or dtype. FileExistsError: the folder exists already.
    """
    path = places.as_path(path)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    write = _writer_for(path)
    stored = {k: jax.tree.map(np.asarray, v) for k, v in variables.items()}
    stored["params"] = jax.tree.map(lambda x: x.astype(DTYPES[dtype], copy=False), stored["params"])
    with places.local_result(path) as file:
        _write_whole(file, write, stored, config, image_size)


def _write_whole(path: AnyPath, write: Callable, *content: Any) -> None:
    """Writes beside the place and renames."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(partial, *content)
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def _writer_for(path: AnyPath):
    if path.suffix in TORCH_SUFFIXES:
        return _write_torch
    if path.suffix == ".safetensors":
        return _write_safetensors
    if path.suffix:
        known = ", ".join([*TORCH_SUFFIXES, ".safetensors"])
        raise ValueError(f"{path}: weights are written as {known}, or a folder (no ending)")
    if path.exists():
        raise FileExistsError(f"{path} exists; an orbax folder is written to a new place")
    return _write_orbax


def _config_json(config: ModelConfig) -> str:
    return json.dumps(dataclasses.asdict(config))


def _write_safetensors(path: AnyPath, variables: Variables, config: ModelConfig, size) -> None:
    flat = {"/".join(str(k.key) for k in keys): x for keys, x in _leaves(variables)}
    metadata = {_CONFIG_KEY: _config_json(config)}
    metadata |= {_SIZE_KEY: json.dumps(size)} if size is not None else {}
    safetensors_file.write(path, flat, metadata)


def _write_orbax(path: AnyPath, variables: Variables, config: ModelConfig, size) -> None:
    import orbax.checkpoint as ocp

    own = {k: v for k, v in variables.items() if k != "unused"}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save((path / _VARIABLES_FOLDER).absolute(), own)
    (path / _CONFIG_FILE).write_text(_config_json(config))
    if size is not None:
        (path / _SIZE_FILE).write_text(json.dumps(size))


def _write_torch(path: AnyPath, variables: Variables, config: ModelConfig, size) -> None:
    arguments = argparse.Namespace(model=torch_args.constructor(config, size))
    # Views: each tensor is laid out as it is written, so that no second copy of all is in memory.
    state = port.torch_views(variables, config)
    torch_writer.write(path, {"model": state, "args": arguments})


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    dtype: str = "float32",
    ignore_objects: bool = False,
) -> None:
    """Rewrite weights in the format that the target's name asks for; PyTorch round trips exactly.

    ignore_objects: as for `load_weights`. What a release carries and no network reads is kept
    between ``.pth`` and ``.safetensors``.
    """
    config, variables = _read(places.as_path(source), ignore_objects)
    variables = {k: v if k == "unused" else _float32(v) for k, v in variables.items()}
    save_weights(target, variables, config, dtype, image_size(source, ignore_objects))
