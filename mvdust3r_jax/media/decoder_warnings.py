"""Warnings of image decoders, kept back while any thread decodes.

`warnings.catch_warnings` puts back what it has found, and of two threads that overlap the second
one finds what the first has set: afterwards all warnings of the process would be off.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_caught = warnings.catch_warnings(action="ignore")


@contextmanager
def ignored() -> Iterator[None]:
    """No warning is shown inside; the last thread to leave restores what was set before."""
    global _inside, _caught
    with _lock:
        if _inside == 0:
            _caught = warnings.catch_warnings(action="ignore")
            _caught.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _caught.__exit__(None, None, None)
