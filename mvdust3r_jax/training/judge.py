"""What a run is judged by while it trains: the objective on held-out sets, and pictures of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.progress_pictures import contact_sheet
from mvdust3r_jax.training.run import Run
from mvdust3r_jax.training.sources import Batches
from mvdust3r_jax.types import Batch

# Opens a set at its beginning.
OpenSet = Callable[[], Batches]


def check_sets(sets: dict[str, OpenSet]) -> dict[str, Any]:
    """Opens every set: a wrong one is an error before the first step.

    Returns what each is made of, as JSON holds it: digests of its stored parts, and how many
    samples there are. Where either differs, values on two sets of one name do not compare.
    """
    made_of = {}
    for name, open_set in sets.items():
        try:
            source = open_set()
        except (OSError, ValueError) as error:
            raise ValueError(f"config.eval.{name} cannot be opened: {error}") from error
        stored, samples = _stored_parts(source.get_state()), source.epoch_samples
        made_of[name] = {"made_from": stored, "samples": samples}
    return made_of


def _stored_parts(position: Any) -> list[str]:
    """Digests of all stored data sets of a position; those of a mixture stand in its parts."""
    if not isinstance(position, dict):
        return []
    parts = (_stored_parts(part) for part in position.get("parts", ()))
    return [*position.get("made_from", ()), *itertools.chain.from_iterable(parts)]


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

    after_each: called when a batch is done.
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
            terms, ids, first = self._evaluate(state, open_set())
            _tell_repeated(name, ids)
            means[name] = mean_of(terms)
            self._log.scalars(step, means[name], kind=f"eval_{name}")
            logging.info("eval %s at step %d: %s", name, step, means[name])
            if draw:
                self._draw(step, state, name, first)
        return means

    def _evaluate(
        self, state: Any, source: Batches
    ) -> tuple[list[dict[str, Any]], list[str], Batch]:
        """Terms of each batch, the ids of all samples, and the first batch.

        While the chips evaluate a batch the next one is made; neither they nor the host hold more,
        but for the first, of which pictures are drawn.
        """
        run, terms = self._run, []
        batch, info = next(source)
        first, ids = batch, list(info["ids"])
        for number in range(1, self._batches + 1):
            running = run.evaluate(state, run.chips.put_batch(batch))
            if number < self._batches:
                batch, info = next(source)
                ids += info["ids"]
            terms.append(jax.device_get(running))
            self._after_each()
        return terms, ids, first

    def _draw(self, step: int, state: Any, name: str, batch: Batch) -> None:
        rows = self._run.pictures(state, self._run.chips.put_batch(batch))
        self._log.pictures(step, {name: contact_sheet(jax.device_get(rows))})
