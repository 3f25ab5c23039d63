"""Ends a run that stands still: with the stack of every thread in the log, and its own exit code.

On several processes a lost host, a blocked collective or a dead file system shows as silence: every
process waits for the others, SIGTERM is only noted, and the machines are paid for. Which line each
of them waits in is all that can still be learned, so it is logged before the process ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import logging

from mvdust3r_jax.types import Batch

# EX_SOFTWARE of sysexits.h: neither a finished, nor an interrupted, nor an ordinarily failed run.
STALLED = 70


def all_stacks() -> str:
    """Name and stack of every Python thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )


class Watchdog:
    """Ends the process when neither ``alive`` is called nor anything compiled for ``limit_s``.

    A context manager: it watches inside. A limit of 0 watches nothing.
    """

    def __init__(self, limit_s: float):
        self._limit_s, self._last, self._pauses = limit_s, time.monotonic(), 0
        self._ended = threading.Event()
        # A compilation that ends is progress.
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, *_: Any, **__: Any) -> None:
        if event.startswith("/jax/core/compile"):
            self.alive()

    def alive(self) -> None:
        """Something was finished: a step, an evaluation."""
        self._last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """For work that has a time limit of its own: saving."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self.alive()

    def compiles(self, function: Callable) -> Callable:
        """``function(state, batch)``, unwatched while it is called with a new shape of images.

        Such a call compiles, which may take longer than any step, and returns before the program
        has run: what hangs on the devices is seen afterwards.
        """
        seen = set()

        def call(state: Any, batch: Batch) -> Any:
            if batch.images.shape in seen:
                return function(state, batch)
            seen.add(batch.images.shape)
            with self.paused():
                return function(state, batch)

        return call

    def __enter__(self) -> Watchdog:
        self.alive()
        if self._limit_s > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()

    def _watch(self) -> None:
        pause_s, looked = min(self._limit_s / 10, 10.0), time.monotonic()
        while not self._ended.wait(pause_s):
            now, before = time.monotonic(), looked
            silent_s, looked = now - self._last, now
            if now - before > pause_s + self._limit_s / 2:
                # This thread did not run either: the process was suspended (SIGSTOP), not stuck.
                self.alive()
                continue
            if silent_s > self._limit_s and not self._pauses:
                logging.error(
                    "nothing was finished for %.0f s (config.stall_minutes): this process ends "
                    "with %d. Its threads stand here:\n%s",
                    *(silent_s, STALLED, all_stacks()),
                )
                logging.flush()
                # An ordinary exit would wait for the threads that hang, and for other processes.
                os._exit(STALLED)
