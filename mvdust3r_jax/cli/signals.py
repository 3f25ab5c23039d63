"""Ctrl-C, SIGTERM and SIGHUP: clean up, say so, and end with the signal's own exit code.

Python runs a signal's handler between two of its own instructions. While a program compiles there
is none for many seconds, so a thread waits for the signal as well and ends the process if the
command has not done so by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mvdust3r_jax.storage.results import abandon_stages

# How long a command may take to clean up by itself.
GRACE_S = 2.0
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """One of the signals has come; ``exit_code`` is 128 + its number, as shells report it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise `Interrupted` in the block; where that is not seen in time, the process ends.

    Only the main thread may use it; for a whole program, not for a function of a library.
    """
    done = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # What is ignored stays so: nohup ignores SIGHUP, shells SIGINT of jobs in the background.
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _raise) for number in heard}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()


@contextmanager
def held() -> Iterator[None]:
    """Of a program that is `interruptible`, signals raise at the end of the block only.

    Native libraries that are interrupted while they start may end in a segmentation fault, and some
    imports swallow what is raised in them.
    """
    came: list[int] = []
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is _raise]
    for number in numbers:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, _raise)
    if came:
        raise Interrupted(came[0])


def _raise(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _end_in_time(reader: socket.socket, done: threading.Event) -> None:
    """Waits for a signal's number; then for the command, and ends the process in its stead."""
    with reader:
        received = reader.recv(1)
    if not received or done.wait(GRACE_S):
        return
    abandon_stages()
    sys.stderr.write("\nerror: interrupted\n")
    leave(128 + received[0])


def leave(code: int) -> None:
    """Ends the process without what runs at an interpreter's exit.

    XLA's threads may still compile; taking their modules away ends in a segmentation fault.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)
