"""SIGTERM, as clusters send it before they take a machine away: all processes end together.

Ctrl-C (SIGINT) asks for the same, the first time.
"""

from __future__ import annotations

import signal
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils


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

    def after(self, step: int) -> bool:
        """Whether this step is the last one; all processes ask after each step."""
        if jax.process_count() > 1:
            self.reached = multihost_utils.reached_preemption_sync_point(step)
        return self.reached
