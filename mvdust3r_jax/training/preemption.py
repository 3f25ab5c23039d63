"""SIGTERM, as clusters send it before they take a machine away: all processes end together.

Ctrl-C (SIGINT) asks for the same, the first time, and so do SIGUSR1 and SIGUSR2, which batch
systems can be told to send some minutes before a job's time is over.
"""

from __future__ import annotations

import signal
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

# Windows has none of these.
_WARNINGS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class Preemption:
    """Tells after which step to save and end because of a signal; a context manager.

    Several processes must end after the same step, or those that go on would wait for the others
    forever. There jax catches the SIGTERM of any one of them and agrees on a step that none has
    passed.
    """

    def __init__(self):
        self.reached = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        if jax.process_count() == 1:
            self._catch(signal.SIGTERM, self._request)
        # Whoever starts a program in the background may have it ignore Ctrl-C.
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            self._catch(signal.SIGINT, self._interrupt)
        for number in _WARNINGS:
            # Somebody may have another use for it, e.g. tracebacks.
            if signal.getsignal(number) == signal.SIG_DFL:
                self._catch(number, self._warned)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, handler: Any) -> None:
        # None stands for a handler that is not Python's, and cannot be put back.
        self._before[number] = signal.signal(number, handler) or signal.SIG_DFL

    def _request(self, *_: Any) -> None:
        self.reached = True

    def _interrupt(self, *_: Any) -> None:
        """As SIGTERM, which the other processes hear of; a second Ctrl-C ends at once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logging.warning("Ctrl-C: the run saves and ends after this step; once more ends it at once")
        signal.raise_signal(signal.SIGTERM)

    def _warned(self, number: int, *_: Any) -> None:
        """As SIGTERM, which the other processes hear of."""
        logging.warning("%s: the run saves and ends after this step", signal.Signals(number).name)
        signal.raise_signal(signal.SIGTERM)

    def after(self, step: int) -> bool:
        """Whether this step is the last one; all processes ask after each step."""
        if jax.process_count() > 1:
            self.reached = multihost_utils.reached_preemption_sync_point(step)
        return self.reached
