"""When a run's state is kept: the newest, the best by what it is judged by, and before an error."""

from __future__ import annotations

import functools
from typing import Any

from absl import logging

from mvdust3r_jax.training.checkpoint import Checkpoints
from mvdust3r_jax.training.judge import Judge, deciding
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.parallel import Spread
from mvdust3r_jax.training.progress import due
from mvdust3r_jax.training.sources import Telling
from mvdust3r_jax.training.watchdog import Watchdog


class Keeper:
    """Saves the loop's states, each with the position in the data behind its step.

    The newest of a step is saved before the step is judged, so that an evaluation which fails costs
    no training. A run that was killed between the two judges that step first when it goes on.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        chips: Spread,
        source: Telling,
        judge: Judge,
        log: MetricLog,
        watchdog: Watchdog,
        *,
        metric: str,
        pictures_every: int,
    ):
        """metric: of the first set, by which states are compared."""
        self._checkpoints, self._chips, self._source = checkpoints, chips, source
        self._judge, self._log, self._watchdog = judge, log, watchdog
        self._metric, self._pictures_every = metric, pictures_every
        self._begun: int | None = None

    def newest(self, step: int, state: Any) -> None:
        """Starts to save the state; whether it could is told, then and when it is written."""
        self._tell_if_failed()
        position = self._source.get_state()
        with self._watchdog.paused():
            saved = self._checkpoints.save(step, self._chips.host_view(state), position)
        self._log.event(step, "checkpoint", saved=saved)
        self._begun = step if saved else None

    def _tell_if_failed(self) -> None:
        """A save may fail in the background, after the record that it had begun."""
        with self._watchdog.paused():
            written = self._checkpoints.newest.wait()
        if self._begun is not None and not written:
            self._log.event(self._begun, "checkpoint", saved=False)
        self._begun = None

    def close(self) -> None:
        """Waits for what is being written."""
        self._tell_if_failed()
        with self._watchdog.paused():
            self._checkpoints.close()

    def best(self, step: int, state: Any) -> None:
        """Evaluates, draws where that is due, and saves the state if its metric is the least."""
        means = self._judge.means(step, state, draw=due(self._pictures_every, step))
        name, value = deciding(means, self._metric)
        view, position = functools.partial(self._chips.host_view, state), self._source.get_state()
        with self._watchdog.paused():
            self._checkpoints.save_if_best(step, view, position, name, value)

    def before_error(self, state: Any) -> None:
        """Saves what there is, under the state's own number, and waits for what is being written.

        The step that runs when an error is found may be one more than the loop has looked at. What
        hinders saving is logged: the error that ends the run is the one to tell.
        """
        try:
            kept, position = self._chips.host_view(state), self._source.get_state()
            step = int(kept.step)
            with self._watchdog.paused():
                if step and self._checkpoints.save(step, kept, position):
                    logging.error("the run ends with an error; saved after step %d", step)
        except Exception as error:
            logging.error("the newest state could not be saved: %s", error)
        with self._watchdog.paused():
            self._checkpoints.close()
