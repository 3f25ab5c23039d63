"""A folder of checkpoints that orbax writes in the background, and whose failures end no run.

All processes call everything alike. orbax writes into a temporary folder and renames it, so a run
killed while saving leaves no half checkpoint under a step's name.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint.options import AsyncOptions, MultiprocessingOptions

from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.checksums import checksums, differing
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.training import processes
from mvdust3r_jax.training.causes import first_line

# Time limit of orbax's barriers outside the background write; it cannot be set.
_BARRIER_S = 300.0


class CheckpointFolder:
    """``path`` holds a folder for each step; its name stands in barriers and messages."""

    def __init__(self, path: AnyPath, *, keep: int, milestone_every: int = 0, limit_s: float):
        """All processes open together.

        keep: the newest so many stay. milestone_every: those of multiples of this step stay for
        ever, 0: none do; nor do those go that were saved as such. limit_s: a save that takes longer
        has failed.
        """
        self.path, self.name = path, path.name
        self._keep, self._milestone_every = keep, milestone_every
        # A process may sit in two of orbax's barriers and the save itself until it finds out that
        # another one has failed.
        self._limit_s, self._verdict_s = limit_s, limit_s + 2 * _BARRIER_S
        self._openings, self._latest = itertools.count(), 0
        # None where it could not be opened again after a failure: the next save tries to.
        self._manager: ocp.CheckpointManager | None = self._open()

    def _open(self) -> ocp.CheckpointManager:
        """Of every manager that opens, all processes wait for each other under keys of its own.

        Two that share their keys would meet in each other's barriers. ``active_processes`` gives
        barriers a time limit; without it they are collectives on the devices, which have none.
        """
        everyone = set(range(jax.process_count()))
        with processes.set_up(f"making {self.name}"):
            if jax.process_index() == 0:
                self.path.mkdir(parents=True, exist_ok=True)
        prefix = f"{self.name}-{next(self._openings)}"
        together = MultiprocessingOptions(active_processes=everyone, barrier_sync_key_prefix=prefix)
        background = AsyncOptions(
            timeout_secs=max(int(self._limit_s), 1),
            barrier_sync_fn=processes.matching_barrier(prefix),
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._stay(),
            cleanup_tmp_directories=True,
            create=False,
            async_options=background,
            multiprocessing_options=together if len(everyone) > 1 else MultiprocessingOptions(),
        )
        with processes.set_up(f"opening {self.name}"):
            return ocp.CheckpointManager(self.path, options=options)

    def _stay(self) -> policies.AnyPreservationPolicy:
        """Which checkpoints are not deleted: the newest, and milestones.

        Also those of a period that the run had before, as each of them says itself.
        """
        stay = [policies.LatestN(self._keep)]
        if self._milestone_every:
            stay.append(policies.EveryNSteps(self._milestone_every))
        # In a bucket a folder without files does not exist.
        there = [entry.name for entry in self.path.iterdir()] if self.path.exists() else []
        milestones = list(filter(self._is_milestone, map(int, filter(str.isdecimal, there))))
        if kept := processes.from_first(milestones):
            stay.append(policies.CustomSteps(kept))
        return policies.AnyPreservationPolicy(stay)

    def _is_milestone(self, step: int) -> bool:
        """Whether it was saved to stay for ever; one that cannot be read was not."""
        try:
            every = json.loads(self.read_meta(step)["config"])["milestone_every"]
            return bool(every) and step % int(every) == 0
        except (OSError, KeyError, ValueError, TypeError):
            return False

    def _is_open(self) -> bool:
        """Whether there is a manager, made again if need be; the same in all processes."""
        if self._manager is None:
            try:
                self._manager = self._open()
            except Exception as error:
                logging.error("%s cannot be opened yet: %s", self.name, first_line(error))
        return all(processes.gather(self._manager is not None))

    def steps(self) -> list[int]:
        """Steps that are there, newest first, as process 0 sees the folder; closed: none."""
        if not self._is_open():
            return []
        return processes.from_first(sorted(map(int, self._manager.all_steps()))[::-1])

    # ---- writing -----------------------------------------------------------------------------

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> bool:
        """Starts writing in the background; returns False and says why when that fails.

        ``state`` must stay unchanged while it is written. A failure is reported here or at the
        next call, never raised.
        """
        # A failure of the save before is found here: it was written in the background.
        self.wait()
        if not self._is_open():
            return False
        if step in self.steps():
            return True
        self._latest = step
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        return self._succeeds(step, functools.partial(self._write, step, arguments))

    def _write(self, step: int, arguments: ocp.args.Composite) -> None:
        """A step that is not above its newest is passed over by orbax, which only returns False."""
        if not self._manager.save(step, args=arguments):
            raise ValueError(f"it is not above the newest, {self._manager.latest_step()}")

    def forget_from(self, step: int) -> None:
        """Removes this step and later ones, of a run that was lost and takes them again."""
        self.wait()
        for later in self.steps():
            if later >= step:
                self._succeeds(later, functools.partial(self._manager.delete, later))

    def wait(self) -> bool:
        """Returns once everything is written, and whether it could be; failures are reported."""
        if self._manager is None:
            return True  # of what failed then it was reported
        return self._succeeds(self._latest, self._manager.wait_until_finished)

    def _succeeds(self, step: int, attempt: Callable[[], Any]) -> bool:
        """Whether ``attempt`` succeeded in all processes; where not, all report it and reopen.

        Raises:
          RunError: a process did not say within the limits whether it had succeeded.
        """
        mine = ""
        try:
            attempt()
        except Exception as error:
            mine = first_line(error)
        reason = processes.failures(mine, f"saving {self.name}/{step}", self._verdict_s)
        if reason:
            self._report_failed(step, reason)
        return not reason

    def _report_failed(self, step: int, reason: str) -> None:
        """Names the failure and starts afresh: the failed manager holds half-written work.

        What was half written is removed; it would take the room that the next save needs.
        """
        logging.error(
            "saving %s/%d failed (%s); training goes on with the last good checkpoint",
            *(self.name, step, reason),
        )
        self._manager = None
        if jax.process_index() == 0:
            with contextlib.suppress(OSError), places.as_os_errors(self.path):
                for half in self.path.glob("*.orbax-checkpoint-tmp"):
                    places.remove_tree(half)
        self._is_open()

    # ---- reading -----------------------------------------------------------------------------

    def read_meta(self, step: int) -> dict[str, Any]:
        """Facts of a checkpoint; OSError or ValueError where they cannot be read."""
        path = self.path / str(step) / "meta" / "metadata"
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not facts.keys() >= {"model", "config", "data_states"}:
            raise ValueError("its facts are not those of a run's checkpoint")
        return facts

    def try_meta(self, step: int) -> tuple[dict[str, Any], str]:
        """Facts of a checkpoint, and why they cannot be read ('' when they can)."""
        try:
            return self.read_meta(step), ""
        except (OSError, ValueError) as error:
            return {}, first_line(error)

    def try_state(self, step: int, abstract_state: Any, sums: Mapping[str, int]) -> tuple[Any, str]:
        """Arrays of a checkpoint, read right to where they lie, and why some process cannot.

        sums: of the arrays as they were written (`checksums`); arrays without one are believed.
        """
        state, mine = None, ""
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            state = self._manager.restore(step, args=wanted)["state"]
        except Exception as error:
            mine = first_line(error)
        why = processes.failures(mine, f"reading {self.name}/{step}", self._verdict_s)
        if not why:
            # Of arrays that are cut over chips all processes add up their parts together.
            mine = differing(sums, checksums(state))
            why = processes.failures(mine, f"checking {self.name}/{step}", self._verdict_s)
        return state, why

    def move_aside(self, unreadable: dict[int, str], place: AnyPath) -> None:
        """Into ``place``: a later save of the same step must not find an unreadable one there.

        unreadable: step -> why it cannot be read.
        """
        if not unreadable:
            return
        for step, reason in unreadable.items() if jax.process_index() == 0 else ():
            folder, target = self.path / str(step), place / f"{self.name}-{step}"
            for again in itertools.count(2):
                if not target.exists():
                    break
                target = place / f"{self.name}-{step}-{again}"
            places.move_tree(folder, target)
            logging.warning(
                "checkpoint %s cannot be read and was moved to %s (%s)",
                *(folder, target, reason),
            )
        processes.meet("moving unreadable checkpoints", _BARRIER_S)
        self._manager.reload()

    def close(self) -> None:
        """Releases orbax's threads."""
        if self._manager is not None:
            self._manager.close()
