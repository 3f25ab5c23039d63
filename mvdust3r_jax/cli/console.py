"""What a command says: progress and messages on stderr, its result on stdout.

Messages that nobody can read (stderr is closed, or its reader has gone) end no work; a result that
cannot be written is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BAR_WIDTH = 20
_TICK_S = 0.2
# Without a terminal: a line when a stage has run so long, and then at each further one.
_LINE_EVERY_S = 15.0


def open_streams() -> None:
    """Standard streams that a process was started without lead nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def _tell(text: str) -> None:
    """Writes to stderr; once that fails, whatever comes is lost."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")


def _give(result: dict[str, Any]) -> None:
    """Writes a line to stdout; OSError naming it."""
    text = json.dumps(result, default=str, allow_nan=False)
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left of it would fail again when Python ends.
        with contextlib.suppress(OSError, ValueError):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "the result for stdout") from error


class Console:
    """Messages of one command; ``quiet`` leaves errors, ``as_json`` prints the result as JSON."""

    def __init__(self, quiet: bool = False, as_json: bool = False):
        self._quiet, self._json = quiet, as_json
        self._live = sys.stderr.isatty() and not quiet
        self._line_open = False
        self._step: Any = None
        # Seconds that a stage is thought to take, by its name.
        self.expected: dict[str, float] = {}
        # What is done of the running stage, where it tells.
        self._share: float | None = None

    def step(self, name: str) -> None:
        """End the running step and begin the named one; "" begins none."""
        if self._step is not None:
            self._step.__exit__(None, None, None)
        self._step = self.stage(name, self.expected.get(name)) if name else None
        if self._step is not None:
            self._step.__enter__()

    def writes(self, name: str) -> None:
        """The step of writing this file begins."""
        self.step(f"write {name}")

    def advance(self, share: float) -> None:
        """Tell how much of the running stage is done, 0 to 1."""
        self._share = share

    def say(self, text: str) -> None:
        """A message for people."""
        if not self._quiet:
            self._end_line()
            _tell(f"{text}\n")

    def warn(self, text: str) -> None:
        """What a user must know though the command goes on; ``quiet`` does not silence it."""
        self._end_line()
        _tell(f"warning: {text}\n")

    def fail(self, text: str, *hints: str) -> None:
        """An error: one sentence, then hints."""
        self.step("")
        self._end_line()
        if self._json:
            # Where the result itself could not be written, this cannot be, either.
            with contextlib.suppress(OSError):
                _give({"error": text, "hints": list(hints)})
        _tell("".join([f"error: {text}\n", *(f"hint: {hint}\n" for hint in hints)]))

    def finish(self, result: dict[str, Any] | None) -> None:
        """The command's result."""
        self._end_line()
        if self._json and result is not None:
            _give(result)

    @contextmanager
    def stage(self, name: str, expected_s: float | None = None) -> Iterator[None]:
        """A stage of work: a bar with the time left on a terminal, else lines."""
        begin, self._share = time.perf_counter(), None
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(name, begin, expected_s, done))
        if not self._quiet:
            ticker.start()
        try:
            yield
        finally:
            done.set()
            if not self._quiet:
                ticker.join()
        self._end_line()
        self.say(f"{name}: {time.perf_counter() - begin:.1f} s")

    def _tick(self, name: str, begin: float, expected_s: float | None, done) -> None:
        while not done.wait(_TICK_S if self._live else _LINE_EVERY_S):
            text = self._so_far(name, time.perf_counter() - begin, expected_s)
            _tell(f"\r\x1b[K{text}" if self._live else f"{text}\n")
            self._line_open = self._live

    def _so_far(self, name: str, elapsed_s: float, expected_s: float | None) -> str:
        """The stage, its bar where its length is known, and the time."""
        total_s = elapsed_s / self._share if self._share else expected_s
        if not total_s:
            return f"{name}: {elapsed_s:.0f} s"
        bar = "#" * round(min(elapsed_s / total_s, 1.0) * _BAR_WIDTH)
        left_s = max(total_s - elapsed_s, 0)
        return f"{name}: [{bar:<{_BAR_WIDTH}}] {elapsed_s:.0f} s, about {left_s:.0f} s left"

    def _end_line(self) -> None:
        if self._line_open:
            _tell("\r\x1b[K")
            self._line_open = False
