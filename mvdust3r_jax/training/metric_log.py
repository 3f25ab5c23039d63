"""Where numbers go: JSON lines, and TensorBoard (by tensorboardX, no TensorFlow).

One process writes. A resumed run first drops the records of steps it is about to repeat, so every
step stands once in the file. What cannot be written (a full disk) is reported and lost; the run
goes on.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float, UInt8
from PIL import Image

from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.places import AnyPath

try:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
except ImportError:
    EventsWriter = None


class MetricLog:
    """Appends ``{"step": k, "kind": ..., name: value, ...}`` lines to ``metrics.jsonl``.

    In a bucket (``gs://...``) files appear half a minute late, and with every checkpoint. path: of
    this process's file, None where it writes none.
    """

    def __init__(
        self, workdir: AnyPath, first_step: int, *, tensorboard: bool, active: bool = True
    ):
        self._active, self._mirror, self._board = active, None, None
        self.path: AnyPath | None = None
        if not active:
            return
        if places.is_remote(workdir):
            self._mirror = places.Mirror(workdir)
            self._mirror.pull("metrics.jsonl")
            workdir = self._mirror.local
        self._workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self.path = workdir / "metrics.jsonl"
        _drop_after(self.path, first_step)
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            self._board = _open_board(workdir / "tensorboard", first_step)

    def scalars(self, step: int, values: dict[str, Any], kind: str = "train") -> None:
        """Writes one record; values are converted to float. NaN and infinity become strings."""
        if not self._active:
            return
        numbers = {name: float(value) for name, value in values.items()}
        safe = {n: v if math.isfinite(v) else str(v) for n, v in numbers.items()}
        self.event(step, kind, **safe)
        if self._board is not None:
            with _reported(step, "TensorBoard"):
                self._board.scalars(step, {f"{kind}/{name}": v for name, v in numbers.items()})

    def event(self, step: int, kind: str, **facts: Any) -> None:
        """Writes one record of anything that JSON holds: skipped steps, saves, compilations."""
        if not self._active:
            return
        with _reported(step, "metrics"):
            self._file.write(json.dumps({"step": step, "kind": kind, **facts}) + "\n")
            self._file.flush()
            if self._mirror is not None:
                # A run that is killed repeats the steps since its last checkpoint.
                self._mirror.push(force=kind == "checkpoint")

    def pictures(self, step: int, panels: dict[str, Float[np.ndarray, "H W 3"]]) -> None:
        """Panels in [0, 1], to TensorBoard and as ``pictures/NAME_STEP.png``."""
        if not self._active:
            return
        folder = self._workdir / "pictures"
        for name, panel in panels.items():
            pixels = (255 * np.clip(panel, 0, 1)).astype(np.uint8)
            with _reported(step, "pictures"):
                folder.mkdir(exist_ok=True)
                encoded = io.BytesIO()
                Image.fromarray(pixels).save(encoded, "PNG")
                with whole_file(folder / f"{name}_{step:08d}.png") as partial:
                    partial.write_bytes(encoded.getvalue())
            if self._board is not None:
                with _reported(step, "TensorBoard"):
                    self._board.picture(step, name, pixels)

    def close(self) -> None:
        """Writes out what is buffered."""
        if not self._active:
            return
        with contextlib.suppress(OSError):  # every record was flushed, or reported
            self._file.close()
        if self._board is not None:
            self._board.close()
        if self._mirror is not None:
            with _reported(0, "metrics"):
                self._mirror.close()


@contextlib.contextmanager
def _reported(step: int, what: str) -> Iterator[None]:
    """Turns a failed write into a warning."""
    try:
        yield
    except OSError as error:
        logging.warning("step %d: %s could not be written: %s", step, what, error)


class _Board:
    """TensorBoard event files. Written at once: a background writer that fails leaves no word.

    After a failed write the next one begins another file; readers skip the rest of a broken one.
    """

    def __init__(self, folder: AnyPath, first_step: int):
        self._folder, self._first_step, self._writer = folder, first_step, None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._write(step, *(summary.scalar(name, value) for name, value in values.items()))

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        self._write(step, summary.image(name, pixels, dataformats="HWC"))

    def _write(self, step: int, *contents: Any) -> None:
        self._writer = self._writer or self._open()
        try:
            self._append(step, contents)
        except OSError:
            self.close()
            raise

    def _append(self, step: int, contents: tuple[Any, ...]) -> None:
        for content in contents:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=content))
        self._writer.flush()

    def close(self) -> None:
        """Ends the file, if one is open."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()

    def _open(self) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(self._folder / "events"), f".{time.monotonic_ns()}")
        if self._first_step:  # readers then drop what an interrupted run wrote beyond this step
            start = SessionLog(status=SessionLog.START)
            writer.write_event(
                Event(wall_time=time.time(), step=self._first_step, session_log=start)
            )
        return writer


def _open_board(folder: AnyPath, first_step: int) -> _Board | None:
    if EventsWriter is None:
        logging.warning("no TensorBoard files: install tensorboardX (the [data] extra has it)")
        return None
    return _Board(folder, first_step)


def _drop_after(path: AnyPath, first_step: int) -> None:
    """Keeps the records of steps before ``first_step`` (their step number is at most that)."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run was killed
        if record.get("step", 0) <= first_step and first_step > 0:
            kept.append(line)
    whole = path.with_suffix(".tmp")
    whole.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(whole, path)
