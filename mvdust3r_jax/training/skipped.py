"""Steps that were not finite: each is told, and too many in a row end the run."""

from __future__ import annotations

from typing import Any

from absl import logging

from mvdust3r_jax.training.metric_log import MetricLog


class NonFiniteError(FloatingPointError):
    """Too many steps in a row whose loss, gradient or update was not finite."""


class SkippedSteps:
    """Looks at a step's numbers when they are there: while the one after it runs."""

    def __init__(self, log: MetricLog, most_in_row: int):
        self._log, self._most_in_row, self._pending = log, most_in_row, None

    def keep(self, step: int, metrics: dict[str, Any], info: dict[str, Any]) -> None:
        """The step that was just started; ``info`` has the names of its examples as ``ids``."""
        self._pending = step, metrics, list(info.get("ids", ()))

    def look(self) -> None:
        """Waits for the step that was kept, if any, and tells whether it was skipped.

        Raises:
          NonFiniteError: ``most_in_row`` were; no parameter has changed since before the first.
        """
        if self._pending is None:
            return
        (step, metrics, ids), self._pending = self._pending, None
        in_row = int(metrics["skipped_in_row"])
        if not in_row:
            return
        terms = {name: str(float(value)) for name, value in metrics.items()}
        self._log.event(step, "skipped", in_row=in_row, terms=terms, ids=ids)
        logging.warning("step %d was not finite and is skipped (%d in a row)", step, in_row)
        if in_row >= self._most_in_row:
            raise NonFiniteError(
                f"{in_row} steps in a row were not finite, last step {step}; its terms: {terms}; "
                f"its examples: {ids}; the newest checkpoint has the parameters from before"
            )
