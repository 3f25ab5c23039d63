"""Going on where an earlier run of a workdir stopped."""

from __future__ import annotations

from typing import Any

from absl import logging

from mvdust3r_jax.training.changed_settings import compare_settings
from mvdust3r_jax.training.checkpoint import Checkpoints
from mvdust3r_jax.training.parallel import Spread
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.sources import Going
from mvdust3r_jax.training.state import TrainState


def resume(
    checkpoints: Checkpoints,
    chips: Spread,
    state: TrainState,
    source: Going,
    settings: str,
    allow_changes: bool,
) -> tuple[int, Any, dict[str, tuple[Any, Any]]]:
    """Goes where an earlier run of this workdir stopped, if there was one.

    settings: this run's configuration as JSON. Gives the number of the last step, the state on the
    chips, and the settings that are not those of the checkpoint.

    Raises:
      RunError: settings or sets to evaluate on differ that must be allowed first, or the position
      in the data is that of other data.
    """
    if not checkpoints.newest_step():
        return 0, chips.put_state(state), {}
    restored = checkpoints.restore(chips.abstract(state))
    # Checkpoints of before this was kept say nothing about their sets.
    saved, sets = restored.meta["config"], (restored.meta.get("sets", {}), checkpoints.sets)
    changes = compare_settings(
        saved, settings, restored.step, allow_changes=allow_changes, sets=sets
    )
    go_on(source, restored.data_state, restored.step, allow_changes)
    logging.info("going on after step %d", restored.step)
    return restored.step, chips.put_state(restored.state), changes


def go_on(source: Going, position: Any, step: int, allow_changes: bool) -> None:
    """`go_to`; but for whoever allows changes other data begin anew, also those built anew."""
    try:
        go_to(source, position, step)
    except RunError as error:
        if not allow_changes:
            raise RunError(f"{error}; with --allow_changes this one does so, too") from error
        logging.warning("the data start from their first sample: %s", error)


def go_to(source: Going, position: Any, step: int) -> None:
    """Data go on where they were at this step; RunError if that was in another source."""
    try:
        source.set_state(position)
    # Each kind has other fields in its positions.
    except (KeyError, TypeError) as error:
        raise RunError(
            f"the position in the data at step {step} is that of another kind of source than "
            f"{type(source).__name__}: it has no {error}; a new workdir (with init_from) starts "
            "from the first sample"
        ) from error
    except ValueError as error:
        raise RunError(f"step {step}: {error}") from error
