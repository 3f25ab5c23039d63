"""Weights in orbax folders: our own, a training run's working directory, or one checkpoint."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.checksums import checksums, differing
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.weights.contents import (
    TrainedOn,
    Variables,
    checked,
    config_from_json,
    config_json,
)

_CONFIG_FILE, _VARIABLES_FOLDER = "config.json", "variables"


def read(path: AnyPath) -> tuple[ModelConfig, Variables]:
    """Our orbax folder, or a training run's working directory or one of its checkpoints."""
    if (path / _CONFIG_FILE).is_file():
        config = config_from_json((path / _CONFIG_FILE).read_text())
        return config, checked(_restore(path / _VARIABLES_FOLDER, config, "params"), config)
    step = checkpoint_of_run(path)
    if step is None:
        raise ValueError(f"the folder holds neither {_CONFIG_FILE} nor a training run's checkpoint")
    meta = json.loads((step / "meta" / "metadata").read_text())
    config = config_from_json(json.dumps(meta["model"]))
    params_key = "average" if _holds(step / "state", "average") else "params"
    try:
        variables = _restore(step / "state", config, params_key)
        if damage := _damage(variables, params_key, meta.get("checksums", {})):
            raise ValueError(damage)
    except Exception as error:
        # orbax and its storage tell of damage in errors of many kinds.
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"the checkpoint {step} cannot be read ({told[0][:200]}); another one of the run can "
            "be given by its own folder"
        ) from error
    return config, checked(variables, config)


def is_ours(path: AnyPath) -> bool:
    """Whether the folder is what `write` writes and nothing else lies in it."""
    own = {_CONFIG_FILE, _VARIABLES_FOLDER, *(f"{name}.json" for name in TrainedOn._fields)}
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    return {_CONFIG_FILE, _VARIABLES_FOLDER} <= found <= own


def has_weights(path: AnyPath) -> bool:
    """Whether `read` would find weights in the folder."""
    return (path / _CONFIG_FILE).is_file() or checkpoint_of_run(path) is not None


def trained_on(path: AnyPath) -> TrainedOn:
    """What the folder's network was trained on, as far as it says so."""
    if (path / _CONFIG_FILE).is_file():
        files = {name: path / f"{name}.json" for name in TrainedOn._fields}
        texts = {name: file.read_text() for name, file in files.items() if file.is_file()}
        return TrainedOn.from_texts(texts)
    data = data_of_run(path)
    if not data:
        return TrainedOn()
    return TrainedOn((data["height"], data["width"]), max(data.get("num_inputs", ()), default=None))


def data_of_run(path: AnyPath) -> dict[str, Any]:
    """``config.data`` of the training run that the folder is of; empty where it is none's."""
    step = checkpoint_of_run(path)
    if step is None:
        return {}
    run = json.loads(json.loads((step / "meta" / "metadata").read_text())["config"])
    return run.get("data", {})


def checkpoint_of_run(path: AnyPath) -> AnyPath | None:
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


def _damage(variables: Variables, params_key: str, kept: dict[str, int]) -> str:
    """What to say of arrays that are not as the run wrote them; '' where all are.

    kept: `checksums` of the run's state, whose fields the variables are.
    """
    fields = {params_key: variables["params"], "batch_stats": variables.get("batch_stats", {})}
    found = {
        f".{name}{path}": value
        for name, tree in fields.items()
        for path, value in checksums(tree).items()
    }
    return differing(kept, found)


def _holds(folder: AnyPath, key: str) -> bool:
    """Whether a checkpoint has anything under the key."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(places.absolute(folder)).item_metadata.tree
    return bool(tree.get(key))


def write(path: AnyPath, variables: Variables, config: ModelConfig, trained: TrainedOn) -> None:
    """Our own folder, with a file for each thing that is known of the training."""
    import orbax.checkpoint as ocp

    own = {k: v for k, v in variables.items() if k != "unused"}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save((path / _VARIABLES_FOLDER).absolute(), own)
    (path / _CONFIG_FILE).write_text(config_json(config))
    for name, text in trained.texts().items():
        (path / f"{name}.json").write_text(text)
