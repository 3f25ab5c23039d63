"""SIGTERM, as clusters send it before they take a machine away: all processes end together."""

from __future__ import annotations

import signal
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Tells after which step to save and end because of SIGTERM.

    Several processes must end after the same step, or those that go on would wait for the others
    forever. There jax catches the signal of any one of them and agrees on a step that none has
    passed.
    """

    def __init__(self):
        self.reached = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._request)

    def _request(self, *_: Any) -> None:
        self.reached = True

    def after(self, step: int) -> bool:
        """Whether this step is the last one; all processes ask after each step."""
        if jax.process_count() > 1:
            self.reached = multihost_utils.reached_preemption_sync_point(step)
        return self.reached
