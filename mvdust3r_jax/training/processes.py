"""What the processes of one run do together: gather facts, agree, fail alike, see one folder.

All functions are collective: every process calls them, in the same order, from its main thread.
With one process they return at once. Where they meet (`meet`, `failures`, `set_up`), one that does
not come within a time limit is an error on all others, never a wait for ever.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from mvdust3r_jax.storage.places import AnyPath

_numbers = collections.Counter()
# Where the code lies that refuses settings and files in words of its own.
_ROOT = Path(__file__).parents[2]
# How long a file that another host has just written may take to appear (attribute caches of NFS).
_VISIBLE_S = 20.0
# How long processes that stand at the same barrier may need to find each other there.
_SAME_PLACE_MS = 30_000
# How much longer than others a process may need for a part of set-up: opening data, for example.
SET_UP_S = 1200.0


class RunError(ValueError):
    """What keeps a run from starting or going on, told in one line."""


def meet(what: str, limit_s: float) -> None:
    """Returns once all processes are here.

    Raises:
      RunError: one did not come within the limit.
    """
    if jax.process_count() == 1:
        return
    # A key may be used once. Each place counts for itself: who failed on the way to another place
    # still meets the others here.
    _numbers[what] += 1
    key = f"{what} {_numbers[what]}"
    try:
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=int(1000 * limit_s))
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().splitlines()[0][:500]
        raise RunError(
            f"{what}: not all {jax.process_count()} processes came within {limit_s:.0f} s: {reason}"
        ) from error


class OtherFailed(RuntimeError):
    """Another process did not come to where this one stands."""


def matching_barrier(name: str) -> Callable[..., None]:
    """A barrier for orbax, but one that notices when processes stand at different ones.

    A process whose write failed skips barriers, and the others would wait in those for it until the
    time limit. Here all meet under a running number, and then under the barrier's name, for which
    those who have just met need not wait long.
    """
    if jax.process_count() == 1:
        return lambda **_: None
    wait, numbers, failed = ocp.multihost.get_barrier_sync_fn(), itertools.count(), []

    def barrier(*, key: str, timeout_ms: int) -> None:
        if failed:
            raise OtherFailed(f"not at {key}, since {failed[0]} has failed")
        number = f"{name}, barrier {next(numbers)}"
        try:
            wait(key=number, timeout_ms=timeout_ms)
        except jax.errors.JaxRuntimeError:
            failed.append(key)
            raise
        try:
            wait(key=f"{number}: {key}", timeout_ms=min(timeout_ms, _SAME_PLACE_MS))
            return
        except jax.errors.JaxRuntimeError:
            failed.append(key)
        # Not while the timeout is handled: this process's own failure, if any, stays the cause.
        raise OtherFailed(f"another process has failed before {key}")

    return barrier


def gather(value: Any) -> list[Any]:
    """Every process's value (anything JSON holds), in the order of process indices."""
    if jax.process_count() == 1:
        return [value]
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(raw.size))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: raw.size] = raw
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def from_first(value: Any) -> Any:
    """Process 0's value: what all must do alike is decided in one place."""
    if jax.process_count() == 1:
        return value
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.array(raw.size)))
    padded = np.zeros(size, np.uint8)
    padded[: raw.size] = raw[:size]
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))


def connect() -> None:
    """Connects all devices while the processes stand together; called once they have joined.

    On CPUs (Gloo) devices are connected by the first collective that they share, to which all
    processes must come within 30 s: behind minutes of compiling not all would.
    """
    if jax.process_count() == 1:
        return
    meet("connecting", SET_UP_S)
    total = jax.pmap(lambda x: jax.lax.psum(x, "all"), axis_name="all")
    jax.block_until_ready(total(np.ones(jax.local_device_count(), np.float32)))


def who(indices: Sequence[int]) -> str:
    """``process 1``, ``processes 0, 2-63``; indices in order."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    told = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"process{'es' if len(indices) > 1 else ''} {', '.join(told)}"


def by_value(values: Sequence[str]) -> dict[str, list[int]]:
    """Every process's text -> the indices of the processes that have it."""
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        groups.setdefault(value, []).append(index)
    return groups


def failures(mine: str, what: str, limit_s: float) -> str:
    """What failed in any process, '' when nothing did; the same text in all of them.

    mine: this process's failure, '' without one. limit_s: how long the others may take to get here.
    Processes are named unless all failed alike.
    """
    meet(what, limit_s)
    groups = by_value(gather(mine))
    if len(groups) == 1:
        return mine
    return "; ".join(f"{who(at)}: {reason}" for reason, at in groups.items() if reason)


@contextlib.contextmanager
def set_up(what: str) -> Iterator[None]:
    """A part of a run's set-up: what fails in one process ends all of them, not the others' waits.

    All come to its end, however far their own part went. An error that is no OSError or ValueError
    is the program's mistake, and stays as it is in its own process; so is one that nobody raised to
    refuse something (`is_refusal`), and is logged in full.

    Raises:
      RunError: what failed, in one line; the same in all processes.
    """
    mine, words = None, ""
    try:
        yield
    except Exception as error:
        mine, words = error, _in_one_line(error, what)
        if isinstance(error, OSError | ValueError):
            told = logging.DEBUG if is_refusal(error) else logging.ERROR
            logging.log(told, "%s: the error in full", what, exc_info=error)
        if jax.process_count() > 1:
            # The others may never come, and then nobody else says why.
            logging.error("%s: %s", what, words)
    try:
        reason = failures(words, what, SET_UP_S)
    except RunError as late:
        raise RunError(f"{words}; {late}" if words else str(late)) from (mine or late)
    if mine is not None and not isinstance(mine, OSError | ValueError):
        raise mine
    if reason:
        raise RunError(reason) from mine


def is_refusal(error: Exception) -> bool:
    """Whether this project's code or the system says what is wrong, not a library inside of it."""
    if isinstance(error, RunError | OSError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    here = bool(frames) and Path(frames[-1].filename).is_relative_to(_ROOT)
    return isinstance(error, ValueError) and here and (frames[-1].line or "").startswith("raise")


def _in_one_line(error: Exception, what: str) -> str:
    """An error's words; before those of the system, what was done; of others their type as well."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno:
        return f"{what}: {text}"
    told_by_itself = text and isinstance(error, OSError | ValueError)
    return text if told_by_itself else f"{type(error).__name__}: {text[:1000]}"


def check_shared_folder(folder: AnyPath) -> None:
    """Process 0 makes the folder and a file in it; all look for that file.

    Raises:
      RunError: a process sees another folder under this path, or process 0 cannot write there.
    """
    if jax.process_count() == 1:
        return
    token = folder / f".seen-by-all-{from_first(secrets.token_hex(8))}"
    with set_up("workdir"):
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            token.write_text("")
    blind = gather("" if _appears(token) else socket.gethostname())
    if jax.process_index() == 0:
        token.unlink(missing_ok=True)
    names = [f"{i} (on {host})" for i, host in enumerate(blind) if host]
    if names:
        raise RunError(
            f"the workdir must be one folder that all {jax.process_count()} processes see, but "
            f"what process 0 wrote into {folder} is not there for process {', '.join(names)}"
        )


def _appears(path: AnyPath) -> bool:
    """Whether a file can be seen, at the latest after ``_VISIBLE_S``."""
    end = time.monotonic() + _VISIBLE_S
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
