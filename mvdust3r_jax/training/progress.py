"""What the loop tells of its steps: how fast they are, their numbers, every compilation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.rates import Cost, Goodput, Rates


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


class Progress:
    """Step time, share of it spent waiting for input, examples (also a second) and time left.

    All of steps alone: without what ``exclude`` and ``aside`` take out.
    """

    def __init__(self, first_step: int, total_steps: int):
        self._total = total_steps
        self._step, self._time = first_step, time.perf_counter()
        self._examples, self._waited, self._aside = 0, 0.0, 0.0

    def exclude(self, seconds: float) -> None:
        """Time that is no step's: compiling, evaluating, saving."""
        self._aside += seconds

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Excludes the time spent inside; whoever enters waits for the running step first."""
        started = time.perf_counter()
        yield
        self.exclude(time.perf_counter() - started)

    def count(self, examples: int, waited_s: float) -> None:
        """Adds one step: how many examples it held and how long the loop waited for them."""
        self._examples += examples
        self._waited += waited_s

    def report(self, step: int) -> dict[str, float]:
        """Rates since the last report; starts a new interval."""
        now = time.perf_counter()
        elapsed, steps = max(now - self._time - self._aside, 1e-9), max(step - self._step, 1)
        rates = {
            "step_time_s": elapsed / steps,
            "examples": float(self._examples),
            "examples_per_s": self._examples / elapsed,
            "input_wait_share": self._waited / elapsed,
            "eta_s": elapsed / steps * (self._total - step),
        }
        self._step, self._time, self._examples, self._waited = step, now, 0, 0.0
        self._aside = 0.0
        return rates


def interval_means(steps: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Each number's mean over the steps of an interval, those that were not finite left out.

    Counters and the learning rate are those of the last step.
    """
    fetched = jax.device_get(list(steps))
    means = {}
    for name, last in fetched[-1].items():
        values = np.array([numbers[name] for numbers in fetched], np.float64)
        finite = values[np.isfinite(values)]
        state = name in ("learning_rate", "skipped", "skipped_in_row")
        means[name] = float(last if state or not len(finite) else finite.mean())
    return means


class CompileCounter:
    """Counts XLA compilations of this process; there must be none after each shape's first."""

    _EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self):
        self.count, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_s: float, **_: Any) -> None:
        if event == self._EVENT:
            self.count += 1
            self.seconds += duration_s


class Report:
    """Keeps the numbers of steps, and writes their means every ``every`` steps (0: never).

    What is left at a run's last step is written then.

    Compilations are written at once, those before the first step with the first.
    """

    def __init__(
        self,
        log: MetricLog,
        compiles: CompileCounter,
        *,
        first_step: int,
        last_step: int,
        every: int,
        cost: Cost,
    ):
        self._rates, self._goodput = Rates(cost), Goodput.of(log.path)
        self._log, self._compiles, self._every = log, compiles, every
        self._compiled = compiles.count
        self._progress = Progress(first_step, last_step)
        self._waited_s, self._steps = 0.0, []

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for input."""
        started = time.perf_counter()
        yield
        self._waited_s = time.perf_counter() - started

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Around the start of a step; that of one that is compiled first is no step's time."""
        started, before = time.perf_counter(), self._compiles.count
        yield
        if self._compiles.count > before:
            self._progress.exclude(time.perf_counter() - started)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Around what is no step's time either: see `Progress.aside`."""
        return self._progress.aside()

    def after(
        self,
        step: int,
        metrics: dict[str, Any],
        examples: int,
        shape: Sequence[int],
        *,
        last: bool = False,
    ) -> None:
        """Adds a step: its numbers, examples of all processes, shape of the images it took."""
        self._progress.count(examples, self._waited_s)
        self._rates.count(examples, shape)
        if self._compiles.count > self._compiled:
            self._compiled = self._compiles.count
            seconds = self._compiles.seconds
            self._log.event(
                step, "compile", count=self._compiled, seconds=seconds, images=list(shape)
            )
        if self._every:
            self._steps.append(metrics)
        if due(self._every, step) or (last and self._every):
            self._write(step)

    def _write(self, step: int) -> None:
        numbers = interval_means(self._steps) | self._progress.report(step)
        seconds = numbers["step_time_s"] * len(self._steps)
        self._steps.clear()
        rates = self._rates.report(seconds)
        self._log.scalars(step, numbers | rates | self._goodput.report(seconds))
        logging.info(
            "step %d  loss %.4f  %.3f s/step  %.1f examples/s  input %.1f %%  %.0f s left",
            *(step, numbers["loss"], numbers["step_time_s"], numbers["examples_per_s"]),
            *(100 * numbers["input_wait_share"], numbers["eta_s"]),
        )
