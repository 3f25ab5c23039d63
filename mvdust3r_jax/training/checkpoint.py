"""Checkpoints of a run: newest and best in two places, written in the background, restored exactly.

A checkpoint holds the whole ``TrainState``, the position in the data of every process, the
configuration and the version of the code. orbax writes into a temporary folder and renames it, so a
run killed while saving leaves no half checkpoint under a step's name; one that cannot be read all
the same is named and moved aside, and the one before is used. Restoring deletes nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.options import AsyncOptions, MultiprocessingOptions

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.training import processes
from mvdust3r_jax.training.causes import first_line
from mvdust3r_jax.training.checkpoint_identity import (
    check_same_model,
    check_same_tree,
    code_version,
    described_tree,
)

NEWEST, BEST, UNREADABLE = "checkpoints", "best", "unreadable"
# A save that takes longer has failed; orbax's own default.
SAVE_LIMIT_S = 1200.0
# Time limit of orbax's barriers outside the background write; it cannot be set.
_BARRIER_S = 300.0


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint gave back; ``data_state`` is this process's own position."""

    step: int
    state: Any
    data_state: Any
    meta: dict[str, Any]


class Checkpoints:
    """Saves to and restores from ``workdir/checkpoints`` and ``workdir/best``."""

    def __init__(
        self,
        workdir: AnyPath,
        model: ModelConfig,
        config_json: str,
        *,
        keep: int = 2,
        milestone_every: int = 0,
        limit_s: float = SAVE_LIMIT_S,
    ):
        """All processes open together.

        milestone_every: newest checkpoints of multiples of this step stay for ever, 0: none do.
        limit_s: a save that takes longer has failed.
        """
        self._model = model
        self._limit_s = limit_s
        self._openings = itertools.count()
        self._latest = {NEWEST: 0, BEST: 0}
        self._config_json = config_json
        self._version = code_version()
        workdir = places.absolute(workdir)
        self._folders = {name: workdir / name for name in (NEWEST, BEST)}
        self._keep = {NEWEST: keep, BEST: 1}
        self._milestones = {NEWEST: milestone_every or None, BEST: None}
        self._managers = {name: self._open(name) for name in self._folders}
        self._best_value = self._read_best()

    def _open(self, name: str) -> ocp.CheckpointManager:
        """Of every manager that opens, all processes wait for each other under keys of its own.

        Two that share their keys would meet in each other's barriers. ``active_processes`` gives
        barriers a time limit; without it they are collectives on the devices, which have none.
        """
        folder, everyone = self._folders[name], set(range(jax.process_count()))
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
        processes.meet(f"opening {name}", _BARRIER_S)
        prefix = f"{name}-{next(self._openings)}"
        together = MultiprocessingOptions(active_processes=everyone, barrier_sync_key_prefix=prefix)
        background = AsyncOptions(
            timeout_secs=max(int(self._limit_s), 1),
            barrier_sync_fn=processes.matching_barrier(prefix),
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep[name],
            keep_period=self._milestones[name],
            cleanup_tmp_directories=True,
            create=False,
            async_options=background,
            multiprocessing_options=together if len(everyone) > 1 else MultiprocessingOptions(),
        )
        return ocp.CheckpointManager(folder, options=options)

    def _succeeds(self, place: str, step: int, attempt: Callable[[], Any]) -> bool:
        """Whether ``attempt`` succeeded in all processes; where not, all report it and reopen.

        Raises:
          RunError: a process did not say within the limits whether it had succeeded.
        """
        mine = ""
        try:
            attempt()
        except Exception as error:
            mine = first_line(error)
        # A process may sit in two of orbax's barriers and the save itself until it finds out that
        # another one has failed.
        reason = processes.failures(mine, f"saving {place}/{step}", self._limit_s + 2 * _BARRIER_S)
        if reason:
            self._report_failed(place, step, reason)
        return not reason

    def save(self, step: int, state: Any, data_state: Any, *, place: str = NEWEST, **facts) -> bool:
        """Starts writing in the background; returns False and says why when that fails.

        ``state`` must stay unchanged while it is written (``Parallel.host_view`` gives a copy).
        A full disk or another failed write is reported here or at the next call, never raised: the
        run goes on and the last good checkpoint stays.
        """
        meta = {
            "step": step,
            "model": dataclasses.asdict(self._model),
            "config": self._config_json,
            "code_version": self._version,
            "data_states": processes.gather(data_state),
            "tree": described_tree(state),
            **facts,
        }
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        # A failure of the save before is found here: it was written in the background.
        self._wait_for(place)
        if step in self._steps(place):
            return True
        self._latest[place] = step
        start = functools.partial(self._managers[place].save, step, args=arguments)
        return self._succeeds(place, step, start)

    def _wait_for(self, place: str) -> None:
        manager = self._managers[place]
        self._succeeds(place, self._latest[place], manager.wait_until_finished)

    def _report_failed(self, place: str, step: int, reason: str) -> None:
        """Names the failure and starts afresh: the failed manager holds half-written work.

        What was half written is removed; it would take the room that the next save needs.
        """
        logging.error(
            "saving %s/%d failed (%s); training goes on with the last good checkpoint",
            *(place, step, reason),
        )
        if jax.process_index() == 0:
            for half in self._folders[place].glob("*.orbax-checkpoint-tmp"):
                places.remove_tree(half)
        self._managers[place] = self._open(place)
        if place == BEST:
            self._best_value = self._read_best()

    def save_if_best(
        self, step: int, state: Callable[[], Any], data_state: Any, name: str, value: float
    ) -> bool:
        """Keeps the state whose ``value`` (lower is better) is the least so far."""
        if not processes.from_first(bool(np.isfinite(value) and value < self._best_value)):
            return False
        facts = {"name": name, "value": float(value)}
        saved = self.save(step, state(), data_state, place=BEST, best=facts)
        self._best_value = float(value) if saved else self._best_value
        return saved

    def _steps(self, place: str) -> list[int]:
        """Steps that are there, newest first, as process 0 sees the folder."""
        return processes.from_first(sorted(map(int, self._managers[place].all_steps()))[::-1])

    def _read_best(self) -> float:
        for step in self._steps(BEST):
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
        steps = self._steps(NEWEST)
        unreadable: dict[int, str] = {}
        for step in steps:
            folder = self._folders[NEWEST] / str(step)
            # All check what process 0 read, and so come to the same verdict.
            meta, unreadable[step] = processes.from_first(self._try_meta(step))
            if unreadable[step]:
                continue
            check_same_model(meta["model"], self._model, str(folder))
            # Those of before this field was written say nothing about their tree.
            if "tree" in meta:
                check_same_tree(meta["tree"], abstract_state, str(folder))
            state, unreadable[step] = self._try_state(step, abstract_state)
            if unreadable[step]:
                continue
            del unreadable[step]
            self._move_aside(unreadable)
            return Restored(step, state, _own(meta["data_states"]), meta)
        if steps:
            reasons = "; ".join(f"{step}: {reason}" for step, reason in unreadable.items())
            raise ValueError(
                f"none of the checkpoints in {self._folders[NEWEST]} can be read ({reasons}). To "
                "start afresh take another workdir, if need be with init_from: in this one the old "
                f"{BEST}/ would stay, and whoever loads the run's weights gets those first"
            )
        return None

    def _try_meta(self, step: int) -> tuple[dict[str, Any], str]:
        """Facts of a checkpoint, and why they cannot be read ('' when they can)."""
        try:
            return self._read_meta(NEWEST, step), ""
        except (OSError, ValueError) as error:
            return {}, first_line(error)

    def _try_state(self, step: int, abstract_state: Any) -> tuple[Any, str]:
        """Arrays of a checkpoint, read right to where they lie, and why some process cannot."""
        state, mine = None, ""
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            state = self._managers[NEWEST].restore(step, args=wanted)["state"]
        except Exception as error:
            mine = first_line(error)
        limit_s = self._limit_s + 2 * _BARRIER_S
        return state, processes.failures(mine, f"reading {NEWEST}/{step}", limit_s)

    def _move_aside(self, unreadable: dict[int, str]) -> None:
        """A later save of the same step must not find the unreadable one in its place."""
        if not unreadable:
            return
        place = self._folders[NEWEST].with_name(UNREADABLE)
        for step, reason in unreadable.items() if jax.process_index() == 0 else ():
            folder, target = self._folders[NEWEST] / str(step), place / f"{NEWEST}-{step}"
            for again in itertools.count(2):
                if not target.exists():
                    break
                target = place / f"{NEWEST}-{step}-{again}"
            places.move_tree(folder, target)
            logging.warning(
                "checkpoint %s cannot be read and was moved to %s (%s)",
                *(folder, target, reason),
            )
        processes.meet("moving unreadable checkpoints", _BARRIER_S)
        self._managers[NEWEST].reload()

    def newest_step(self) -> int:
        """Step of the newest checkpoint that was written whole, 0 without any."""
        return max(self._steps(NEWEST), default=0)

    def check_saved(self, step: int) -> None:
        """Raises RunError when the checkpoint of a run's last step is not there."""
        newest_step = self.newest_step()
        if newest_step < step:
            raise processes.RunError(
                f"the checkpoint of the last step, {step}, could not be written (see above); "
                f"the newest one is of step {newest_step}"
            )

    def wait(self) -> None:
        """Returns once everything is written; failures are reported."""
        for place in self._managers:
            self._wait_for(place)

    def close(self) -> None:
        """Waits and releases orbax's threads."""
        self.wait()
        for manager in self._managers.values():
            manager.close()


def _own(data_states: list[Any]) -> Any:
    """This process's position; with another number of processes than before, that of the run."""
    same = len(data_states) == jax.process_count()
    return data_states[jax.process_index() if same else 0]
