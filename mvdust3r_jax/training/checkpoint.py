"""Checkpoints of a run: newest and best in two places, written in the background, restored exactly.

A checkpoint holds the whole ``TrainState``, the position in the data of every process, the
configuration and the version of the code. orbax writes into a temporary folder and renames it, so a
run killed while saving leaves no half checkpoint under a step's name; one that cannot be read all
the same is named and moved aside, and the one before is used. Restoring deletes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from mvdust3r_jax.models.mvdust3r import ModelConfig

NEWEST, BEST, UNREADABLE = "checkpoints", "best", "unreadable"


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint gave back; ``data_state`` is this process's own position."""

    step: int
    state: Any
    data_state: Any
    meta: dict[str, Any]


def code_version() -> str:
    """Commit of the code, with ``+`` after it when files were changed; 'unknown' without git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _gather_json(value: Any) -> list[Any]:
    """Every process's value, in the order of process indices, on every process."""
    if jax.process_count() == 1:
        return [value]
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(raw.size))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: raw.size] = raw
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def check_same_model(saved: dict[str, Any], config: ModelConfig, where: str) -> None:
    """An error that lists the differing fields when a checkpoint belongs to another model.

    Fields that change no parameter (dtype, remat) may differ. A field that is younger than the
    checkpoint has the value that it stands for when left out.
    """
    free = {"dtype", "remat", "unroll", "bn_axis_name"}
    fields = dataclasses.fields(ModelConfig)
    saved = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING} | saved
    mine = json.loads(json.dumps(dataclasses.asdict(config)))
    names = sorted((set(saved) | set(mine)) - free)
    different = [
        f"{n}: {saved.get(n)!r} there, {mine.get(n)!r} here"
        for n in names
        if saved.get(n) != mine.get(n)
    ]
    if different:
        raise ValueError(f"{where} is a checkpoint of another model: " + "; ".join(different))


def described_tree(state: Any) -> dict[str, Any]:
    """Path of every array of a state -> [shape, type], as JSON holds it."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): [list(x.shape), str(x.dtype)] for path, x in leaves}


def check_same_tree(saved: dict[str, Any], state: Any, where: str) -> None:
    """An error that lists the first arrays in which a checkpoint differs from this run's state."""
    mine = described_tree(state)
    different = [
        f"{path}: {saved.get(path, 'nothing')} there, {mine.get(path, 'nothing')} here"
        for path in sorted(set(saved) | set(mine))
        if saved.get(path) != mine.get(path)
    ]
    if different:
        more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(
            f"{where} holds another state than this run's: {'; '.join(different[:3])}{more}. "
            "config.optimizer, freeze, clip_norm and average_decay decide what a checkpoint holds: "
            "resume with those of before, or start in another workdir with init_from"
        )


class Checkpoints:
    """Saves to and restores from ``workdir/checkpoints`` and ``workdir/best``."""

    def __init__(self, workdir: Path, model: ModelConfig, config_json: str, *, keep: int = 2):
        self._model = model
        self._config_json = config_json
        self._version = code_version()
        self._folders = {name: Path(workdir).absolute() / name for name in (NEWEST, BEST)}
        self._keep = {NEWEST: keep, BEST: 1}
        self._managers = {name: self._open(name) for name in self._folders}
        self._best_value = self._read_best()

    def _open(self, name: str) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep[name], cleanup_tmp_directories=True, create=True
        )
        return ocp.CheckpointManager(self._folders[name], options=options)

    def save(self, step: int, state: Any, data_state: Any, *, place: str = NEWEST, **facts) -> bool:
        """Starts writing in the background; returns False and says why when that fails.

        ``state`` must stay unchanged while it is written (``Parallel.host_view`` gives a copy).
        A full disk or another failed write is reported here or at the next call, never raised: the
        run goes on and the last good checkpoint stays.
        """
        manager = self._managers[place]
        meta = {
            "step": step,
            "model": dataclasses.asdict(self._model),
            "config": self._config_json,
            "code_version": self._version,
            "data_states": _gather_json(data_state),
            "tree": described_tree(state),
            **facts,
        }
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        try:
            manager.wait_until_finished()
            if step in manager.all_steps():
                return True
            return bool(manager.save(step, args=arguments))
        except Exception as error:
            self._report_failed(place, step, error)
            return False

    def _report_failed(self, place: str, step: int, error: Exception) -> None:
        """Names the failure and starts afresh: the failed manager holds half-written work.

        What was half written is removed; it would take the room that the next save needs.
        """
        logging.error(
            "saving %s/%d failed (%s); training goes on with the last good checkpoint",
            *(place, step, _first_line(error)),
        )
        for half in self._folders[place].glob("*.orbax-checkpoint-tmp"):
            shutil.rmtree(half, ignore_errors=True)
        self._managers[place] = self._open(place)

    def save_if_best(
        self, step: int, state: Callable[[], Any], data_state: Any, name: str, value: float
    ) -> bool:
        """Keeps the state whose ``value`` (lower is better) is the least so far."""
        if not np.isfinite(value) or value >= self._best_value:
            return False
        self._best_value = float(value)
        return self.save(
            step, state(), data_state, place=BEST, best={"name": name, "value": float(value)}
        )

    def _read_best(self) -> float:
        for step in sorted(self._managers[BEST].all_steps(), reverse=True):
            try:
                return float(self._read_meta(BEST, step)["best"]["value"])
            except (OSError, KeyError, ValueError, TypeError) as error:
                logging.warning("best/%d cannot be read and is passed over: %s", step, error)
        return float("inf")

    def _read_meta(self, place: str, step: int) -> dict[str, Any]:
        path = self._folders[place] / str(step) / "meta" / "metadata"
        return json.loads(path.read_text(encoding="utf-8"))

    def restore(self, abstract_state: Any) -> Restored | None:
        """The newest readable checkpoint, or None when there is none at all.

        ``abstract_state`` (``Parallel.abstract``) says shapes, types and where arrays go. Newer,
        unreadable ones are moved aside: the run saves these steps again.

        Raises:
          ValueError: another model's or another state, or none is readable; nothing has moved then.
        """
        steps = sorted(self._managers[NEWEST].all_steps(), reverse=True)
        unreadable: dict[int, Exception] = {}
        for step in steps:
            folder = self._folders[NEWEST] / str(step)
            try:
                meta = self._read_meta(NEWEST, step)
            except (OSError, ValueError) as error:
                unreadable[step] = error
                continue
            check_same_model(meta["model"], self._model, str(folder))
            # Those of before this field was written say nothing about their tree.
            if "tree" in meta:
                check_same_tree(meta["tree"], abstract_state, str(folder))
            try:
                restored = self._managers[NEWEST].restore(
                    step,
                    args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state)),
                )
            except Exception as error:
                unreadable[step] = error
                continue
            self._move_aside(unreadable)
            return Restored(step, restored["state"], _own(meta["data_states"]), meta)
        if steps:
            reasons = "; ".join(f"{step}: {_first_line(e)}" for step, e in unreadable.items())
            raise ValueError(
                f"none of the checkpoints in {self._folders[NEWEST]} can be read ({reasons}). To "
                "start afresh take another workdir, if need be with init_from: in this one the old "
                f"{BEST}/ would stay, and whoever loads the run's weights gets those first"
            )
        return None

    def _move_aside(self, unreadable: dict[int, Exception]) -> None:
        """A later save of the same step must not find the unreadable one in its place."""
        if not unreadable:
            return
        place = self._folders[NEWEST].with_name(UNREADABLE)
        for step, error in unreadable.items() if jax.process_index() == 0 else ():
            folder, target = self._folders[NEWEST] / str(step), place / f"{NEWEST}-{step}"
            for again in itertools.count(2):
                if not target.exists():
                    break
                target = place / f"{NEWEST}-{step}-{again}"
            place.mkdir(exist_ok=True)
            folder.rename(target)
            logging.warning(
                "checkpoint %s cannot be read and was moved to %s (%s)",
                *(folder, target, _first_line(error)),
            )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("unreadable checkpoints moved")
        self._managers[NEWEST].reload()

    def newest_step(self) -> int:
        """Step of the newest checkpoint that was written whole, 0 without any."""
        return max(self._managers[NEWEST].all_steps(), default=0)

    def wait(self) -> None:
        """Returns once everything is written; failures are reported."""
        for place, manager in list(self._managers.items()):
            try:
                manager.wait_until_finished()
            except Exception as error:
                self._report_failed(place, -1, error)

    def close(self) -> None:
        """Waits and releases orbax's threads."""
        self.wait()
        for manager in self._managers.values():
            manager.close()


def _first_line(error: Exception) -> str:
    """Type and beginning of an error's message, for the log."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def _own(data_states: list[Any]) -> Any:
    """This process's position; an error when the number of processes changed."""
    if len(data_states) != jax.process_count():
        raise ValueError(
            f"the checkpoint holds the data positions of {len(data_states)} processes, this run "
            f"has {jax.process_count()}; resume with as many, or start from exported parameters"
        )
    return data_states[jax.process_index()]
