"""One run at a time writes into a folder: two would mix their records and checkpoints."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import jax

from mvdust3r_jax.storage import locks
from mvdust3r_jax.storage.places import AnyPath
from mvdust3r_jax.training import processes

LOCK = ".running"
# What an evaluation says about itself beside its records, whose file has the name of a run's.
EVALUATION = "eval.json"


@contextlib.contextmanager
def alone_in(folder: AnyPath) -> Iterator[None]:
    """The folder is this run's while the block lasts; a lock ends with process 0, killed or not.

    Nothing is locked where the file system has no locks, and in buckets. Collective.

    Raises:
      RunError: another run holds it, or it cannot be written; the same in all processes.
    """
    with processes.set_up("workdir"):
        lock, holder = _lock(folder) if jax.process_index() == 0 else (None, "")
    holder = processes.from_first(holder)
    if holder:
        raise processes.RunError(
            f"{folder}: another run is writing there ({holder}); wait for its end, stop it "
            "(SIGTERM saves), or take another workdir"
        )
    with lock or contextlib.nullcontext():
        yield


def check_no_evaluation(folder: AnyPath) -> None:
    """ValueError if the folder holds records of an evaluation, which the run's would replace."""
    if (folder / EVALUATION).exists():
        raise ValueError(f"{folder} holds an evaluation ({EVALUATION}): train into another workdir")


def _lock(folder: AnyPath) -> tuple[IO[str] | None, str]:
    """An open file that holds the lock, if there can be one; or who holds it."""
    if not locks.EXIST or not isinstance(folder, Path):
        return None, ""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("a+")
    try:
        held = locks.lock(file)
    except BlockingIOError:
        file.seek(0)
        told = file.read().strip()
        file.close()
        return None, told or "it has not told who it is"
    if not held:
        file.close()
        return None, ""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()}\n")
    file.flush()
    return file, ""
