"""What a run is judged by while it trains: the objective on held-out sets, and pictures of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.progress_pictures import contact_sheet
from mvdust3r_jax.training.run import Run
from mvdust3r_jax.types import Batch

# Opens a set at its beginning.
OpenSet = Callable[[], Iterator[tuple[Batch, dict[str, Any]]]]


def check_sets(sets: dict[str, OpenSet]) -> None:
    """Opens every set: a wrong one is an error before the first step."""
    for name, open_set in sets.items():
        try:
            open_set()
        except (OSError, ValueError) as error:
            raise ValueError(f"config.eval.{name} cannot be opened: {error}") from error


def deciding(means: dict[str, dict[str, float]], metric: str) -> tuple[str, float]:
    """What states are compared by, the metric on the first set: its name with the set's; value."""
    first = next(iter(means))
    return f"{first}/{metric}", means[first][metric]


def mean_of(terms: list[dict[str, Any]]) -> dict[str, float]:
    """Means over batches; of ND over all samples with depth, NaN where there is none."""
    counts = np.array([each["samples"] for each in terms])
    means = {name: float(np.mean([each[name] for each in terms])) for name in terms[0]}
    total = np.sum([each["nd"] * count for each, count in zip(terms, counts, strict=True)])
    means["nd"] = float(total / counts.sum()) if counts.any() else float("nan")
    return {name: mean for name, mean in means.items() if name != "samples"}


@functools.cache
def _warn_once(words: str) -> None:
    logging.warning(words)


def _tell_repeated(name: str, ids: list[str]) -> None:
    """Of a small set some samples may count twice."""
    if repeated := len(ids) - len(set(ids)):
        _warn_once(
            f"config.eval.{name}: {repeated} of {len(ids)} samples are there twice; fewer "
            "eval_batches would count each once"
        )


class Judge:
    """Evaluates on the same first ``batches`` batches of every set each time.

    after_each: called when a set is done.
    """

    def __init__(
        self,
        run: Run,
        log: MetricLog,
        sets: dict[str, OpenSet],
        *,
        batches: int,
        after_each: Callable[[], None],
    ):
        self._run, self._log, self._sets = run, log, sets
        self._batches, self._after_each = batches, after_each

    def means(self, step: int, state: Any, *, draw: bool) -> dict[str, dict[str, float]]:
        """Mean of every term on each set; logged, with a picture of each if ``draw``.

        Averaged weights are used where they are kept.
        """
        means = {}
        for name, open_set in self._sets.items():
            source = open_set()
            batches, infos = zip(*(next(source) for _ in range(self._batches)), strict=True)
            _tell_repeated(name, [i for info in infos for i in info["ids"]])
            means[name] = mean_of(self._terms(state, batches))
            self._log.scalars(step, means[name], kind=f"eval_{name}")
            logging.info("eval %s at step %d: %s", name, step, means[name])
            if draw:
                self._draw(step, state, name, batches[0])
            self._after_each()
        return means

    def _terms(self, state: Any, batches: Sequence[Batch]) -> list[dict[str, Any]]:
        run = self._run
        return jax.device_get([run.evaluate(state, run.chips.put_batch(b)) for b in batches])

    def _draw(self, step: int, state: Any, name: str, batch: Batch) -> None:
        rows = self._run.pictures(state, self._run.chips.put_batch(batch))
        self._log.pictures(step, {name: contact_sheet(jax.device_get(rows))})
