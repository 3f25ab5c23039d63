"""The profiler, for some steps of a run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging

from mvdust3r_jax.storage.places import AnyPath, Mirror, is_remote


class Trace:
    """The profiler, running during those of ``steps`` that this run takes.

    What cannot be written (a full disk) is reported and lost; the run goes on.
    """

    def __init__(self, folder: AnyPath, steps: range):
        self._folder, self._steps, self._running, self._mirror = folder, steps, False, None

    def before(self, step: int) -> None:
        """Starts with the first step of the range that this run takes."""
        if step in self._steps and not self._running:
            self._mirror = Mirror(self._folder) if is_remote(self._folder) else None
            with _reported(step):
                jax.profiler.start_trace(str(self._mirror.local if self._mirror else self._folder))
            self._running = True

    def after(self, step: int, metrics: Any, last: bool) -> None:
        """Ends with the range or with the run."""
        if self._running and (last or step + 1 not in self._steps):
            jax.block_until_ready(metrics)
            self._running = False
            with _reported(step):
                jax.profiler.stop_trace()
                if self._mirror:
                    self._mirror.close()


@contextlib.contextmanager
def _reported(step: int) -> Iterator[None]:
    """Turns a profiler that fails into a warning."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        logging.warning("step %d: the trace failed: %s", step, error)


def serve_profiler(port: int) -> None:
    """Lets a profile be taken of the running process at any time; 0 does nothing.

    Processes of one machine serve at consecutive ports. ``python -m jax.collect_profile PORT MS``
    or TensorBoard's "capture profile" ask for one. The served process writes it, so its folder must
    be named from the root (or in a bucket).
    """
    if not port:
        return
    port += jax.process_index()
    jax.profiler.start_server(port)
    logging.info(
        "profiler at port %d: "
        "python -m jax.collect_profile %d 3000 --log_dir /FOLDER --no_perfetto_link",
        port,
        port,
    )


def traced_steps(text: str) -> range:
    """``FIRST:LAST`` as the steps to trace, none for ''; ValueError for another text."""
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(f"--profile must be FIRST:LAST with 1 <= FIRST <= LAST, got {text!r}")
    return range(first, last + 1)
