"""TensorBoard's event files, by tensorboardX (no TensorFlow)."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mvdust3r_jax.storage.places import AnyPath


class Board:
    """Event files, written at once: a background writer that fails leaves no word.

    After a failed write the next one begins another file; readers skip the rest of a broken one.
    """

    def __init__(self, folder: AnyPath, first_step: int):
        self._folder, self._first_step, self._writer = folder, first_step, None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by the name of their curve; OSError where they cannot be written."""
        self._write(step, *(summary.scalar(name, value) for name, value in values.items()))

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """One picture of a name; OSError where it cannot be written."""
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
        # Readers then drop what an interrupted run wrote from this step on.
        start = SessionLog(status=SessionLog.START)
        writer.write_event(
            Event(wall_time=time.time(), step=self._first_step + 1, session_log=start)
        )
        return writer
