"""Checkpoints of a run: newest and best in two places, restored exactly.

A checkpoint holds the whole ``TrainState``, the position in the data of every process, the
configuration and the version of the code. One that cannot be read, or whose arrays are not what was
written, is named and moved aside, and the one before is used. Restoring deletes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.checksums import checksums
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.training import processes
from mvdust3r_jax.training.changed_settings import judged_alike
from mvdust3r_jax.training.checkpoint_folder import CheckpointFolder
from mvdust3r_jax.training.checkpoint_identity import (
    check_same_model,
    check_same_tree,
    code_version,
    described_tree,
)

NEWEST, BEST, UNREADABLE = "checkpoints", "best", "unreadable"
# A save that takes longer has failed; orbax's own default.
SAVE_LIMIT_S = 1200.0


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
        sets: Mapping[str, Any] | None = None,
        keep: int = 2,
        milestone_every: int = 0,
        limit_s: float = SAVE_LIMIT_S,
    ):
        """All processes open together.

        sets: name of each set to evaluate on -> what it is made of (`judge.check_sets`).
        milestone_every: newest checkpoints of multiples of this step stay for ever, 0: none do.
        limit_s: a save that takes longer has failed.
        """
        self._model, self._config_json, self._version = model, config_json, code_version()
        self.sets = dict(sets or {})
        workdir = places.absolute(workdir)
        self.newest = CheckpointFolder(
            workdir / NEWEST, keep=keep, milestone_every=milestone_every, limit_s=limit_s
        )
        self.best = CheckpointFolder(workdir / BEST, keep=1, limit_s=limit_s)
        self._best = self._read_best()

    def save(self, step: int, state: Any, data_state: Any) -> bool:
        """Starts writing in the background; returns False and says why when that fails.

        ``state`` must stay unchanged while it is written (``chips.host_view`` gives a copy).
        A full disk or another failed write is reported here or at the next call, never raised: the
        run goes on and the last good checkpoint stays.
        """
        return self.newest.save(step, state, self._facts(step, state, data_state))

    def save_if_best(
        self, step: int, state: Callable[[], Any], data_state: Any, name: str, value: float
    ) -> bool:
        """Keeps the state whose ``value`` (lower is better) is the least so far.

        name: of the set and the metric; values of others say nothing about this one's.
        """
        self._look_at_best()
        least = self._best.get(name, float("inf"))
        if not np.isfinite(value):
            logging.warning("%s is %s at step %d: this state cannot be the best", name, value, step)
        if not processes.from_first(bool(np.isfinite(value) and value < least)):
            return False
        made = state()
        facts = self._facts(step, made, data_state) | {
            "best": {"name": name, "value": float(value)}
        }
        self.best.forget_from(step)
        saved = self.best.save(step, made, facts)
        self._best = {name: float(value)} if saved else self._read_best()
        return saved

    def _look_at_best(self) -> None:
        """What was the best may have failed in the background: then the one before it is again."""
        if not self.best.wait():
            self._best = self._read_best()
            told = [f"{name} = {value}" for name, value in self._best.items()]
            logging.warning("the best state is again the one before: %s", *(told or ["none"]))

    def _facts(self, step: int, state: Any, data_state: Any) -> dict[str, Any]:
        """What is kept beside the arrays."""
        return {
            "step": step,
            "model": dataclasses.asdict(self._model),
            "config": self._config_json,
            "sets": self.sets,
            "code_version": self._version,
            "data_states": processes.gather(data_state),
            "tree": described_tree(state),
            "checksums": checksums(state),
        }

    def _read_best(self) -> dict[str, float]:
        """Name of the metric -> its least value; empty where there is no best state."""
        for step in self.best.steps():
            try:
                facts = self.best.read_meta(step)
                told = facts["best"]
                sets = facts.get("sets", {}), self.sets
                if judged_alike(facts["config"], self._config_json, sets):
                    return {told["name"]: float(told["value"])}
                logging.warning(
                    "the best state so far, of step %d, was judged otherwise than states are now: "
                    "it is kept until the next evaluation",
                    step,
                )
                return {}
            except (OSError, KeyError, ValueError, TypeError) as error:
                logging.warning("best/%d cannot be read and is passed over: %s", step, error)
        return {}

    def restore(self, abstract_state: Any) -> Restored | None:
        """The newest readable checkpoint, or None when there is none at all.

        ``abstract_state`` (``chips.abstract``) says shapes, types and where arrays go. Newer,
        unreadable ones are moved aside: the run saves these steps again.

        Raises:
          ValueError: another model's or another state, or none is readable; nothing has moved then.
        """
        unreadable: dict[int, str] = {}
        for step in self.newest.steps():
            # All check what process 0 read, and so come to the same verdict.
            meta, why = processes.from_first(self.newest.try_meta(step))
            state = None
            if not why:
                self._check_fits(meta, abstract_state, str(self.newest.path / str(step)))
                # Checkpoints of before these were kept are taken as they are.
                sums = meta.get("checksums", {})
                state, why = self.newest.try_state(step, abstract_state, sums)
            if not why:
                self.newest.move_aside(unreadable, self.newest.path.with_name(UNREADABLE))
                return Restored(step, state, _own(meta["data_states"]), meta)
            unreadable[step] = why
        if unreadable:
            reasons = "; ".join(f"{step}: {reason}" for step, reason in unreadable.items())
            raise ValueError(
                f"none of the checkpoints in {self.newest.path} can be read ({reasons}). To "
                "start afresh take another workdir, if need be with init_from: in this one the old "
                f"{BEST}/ would stay, and whoever loads the run's weights gets those first"
            )
        return None

    def _check_fits(self, meta: dict[str, Any], abstract_state: Any, where: str) -> None:
        check_same_model(meta["model"], self._model, where)
        # Those of before this field was written say nothing about their tree.
        if "tree" in meta:
            check_same_tree(meta["tree"], abstract_state, where)

    def newest_step(self) -> int:
        """Step of the newest checkpoint that was written whole, 0 without any."""
        return max(self.newest.steps(), default=0)

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
        self.newest.wait()
        self._look_at_best()

    def close(self) -> None:
        """Waits and releases orbax's threads."""
        self.wait()
        self.newest.close()
        self.best.close()


def _own(data_states: list[Any]) -> Any:
    """This process's position; with another number of processes than before, that of the run."""
    same = len(data_states) == jax.process_count()
    return data_states[jax.process_index() if same else 0]
