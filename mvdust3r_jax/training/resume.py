"""Going on where an earlier run of a workdir stopped."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from absl import logging

from mvdust3r_jax.training.changed_settings import compare_settings
from mvdust3r_jax.training.checkpoint import Checkpoints
from mvdust3r_jax.training.parallel import OneChip
from mvdust3r_jax.training.state import TrainState


@runtime_checkable
class Positioned(Protocol):
    """Data that can go to a position."""

    def set_state(self, state: Any) -> None:
        """Goes to a position that it once told."""


def resume(
    checkpoints: Checkpoints,
    chips: OneChip,
    state: TrainState,
    source: Positioned,
    settings: str,
    allow_changes: bool,
) -> tuple[int, Any, dict[str, tuple[Any, Any]]]:
    """Goes where an earlier run of this workdir stopped, if there was one.

    settings: this run's configuration as JSON. Gives the number of the last step, the state on the
    chips, and the settings that are not those of the checkpoint.
    """
    if not checkpoints.newest_step():
        return 0, chips.put_state(state), {}
    restored = checkpoints.restore(chips.abstract(state))
    saved = restored.meta["config"]
    changes = compare_settings(saved, settings, restored.step, allow_changes=allow_changes)
    source.set_state(restored.data_state)
    logging.info("going on after step %d", restored.step)
    return restored.step, chips.put_state(restored.state), changes
