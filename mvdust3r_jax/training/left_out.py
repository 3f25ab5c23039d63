"""Samples that could not be read: how many an epoch lacked, and why."""

from __future__ import annotations

import collections
from typing import Any

from absl import logging

from mvdust3r_jax.training import processes
from mvdust3r_jax.training.metric_log import MetricLog

# So many reasons are told, the most frequent first.
_TOLD = 5


class LeftOut:
    """Counts what batches passed over, and tells it at the end of each epoch.

    epoch_samples: samples of all processes in an epoch; 0 where samples are made and never end.
    seen: samples before the first step of this process. first_step: the step that the run goes on
    from; what an epoch lacked before it is not known any more.
    """

    def __init__(self, log: MetricLog, epoch_samples: int, seen: int = 0, first_step: int = 0):
        self._log, self._epoch_samples, self._seen = log, epoch_samples, seen
        self._since = first_step
        self._reasons: collections.Counter[str] = collections.Counter()

    def after(self, step: int, samples: int, info: dict[str, Any]) -> None:
        """Adds a batch of ``samples`` samples of all processes; all call it alike."""
        self._reasons.update(info.get("skipped", ()))
        if not self._epoch_samples:
            return
        before, self._seen = self._seen // self._epoch_samples, self._seen + samples
        if self._seen // self._epoch_samples > before:
            self._tell(step, self._seen // self._epoch_samples)

    def _tell(self, step: int, epoch: int) -> None:
        reasons: collections.Counter[str] = collections.Counter()
        for told in processes.gather(dict(self._reasons)):
            reasons.update(told)
        self._reasons.clear()
        count, top = sum(reasons.values()), dict(reasons.most_common(_TOLD))
        since, self._since = self._since, step
        self._log.event(step, "epoch", epoch=epoch, left_out=count, since=since, reasons=top)
        words = "".join(f"; {number} x {reason}" for reason, number in top.items())
        logging.info(
            "epoch %d ends: %d samples were left out since step %d%s", epoch, count, since, words
        )
