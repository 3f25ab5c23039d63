"""Locks that one process holds on a file or folder; they end with it, killed or not."""

from __future__ import annotations

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Whether this system has such locks at all.
EXIST = fcntl is not None


def lock(handle: int | IO[str]) -> bool:
    """Holds what is open under the handle until that is closed; False where there are no locks.

    Raises:
      BlockingIOError: another one holds it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True
