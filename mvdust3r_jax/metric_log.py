"""Where numbers go: JSON lines, TensorBoard (by tensorboardX, no TensorFlow), a progress line.

One process writes. A resumed run first drops the records of steps it is about to repeat, so every
step stands once in the file.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Float
from PIL import Image


class MetricLog:
    """Appends ``{"step": k, "kind": ..., name: value, ...}`` lines to ``metrics.jsonl``."""

    def __init__(self, workdir: Path, first_step: int, *, tensorboard: bool, active: bool = True):
        self._active, self._workdir = active, workdir
        self._board = None
        if not active:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        _drop_after(path, first_step)
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            self._board = _open_board(workdir / "tensorboard", first_step)

    def scalars(self, step: int, values: dict[str, Any], kind: str = "train") -> None:
        """Writes one record; values are converted to float. NaN and infinity become strings."""
        if not self._active:
            return
        numbers = {name: float(value) for name, value in values.items()}
        safe = {n: v if math.isfinite(v) else str(v) for n, v in numbers.items()}
        self._write({"step": step, "kind": kind, **safe})
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def event(self, step: int, kind: str, **facts: Any) -> None:
        """Writes one record of anything that JSON holds: skipped steps, saves, compilations."""
        if self._active:
            self._write({"step": step, "kind": kind, **facts})

    def pictures(self, step: int, panels: dict[str, Float[np.ndarray, "H W 3"]]) -> None:
        """Panels in [0, 1], to TensorBoard and as ``pictures/NAME_STEP.png``."""
        if not self._active:
            return
        folder = self._workdir / "pictures"
        folder.mkdir(exist_ok=True)
        for name, panel in panels.items():
            pixels = (255 * np.clip(panel, 0, 1)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}_{step:08d}.png")
            if self._board is not None:
                self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is buffered."""
        if self._active:
            self._file.close()
            if self._board is not None:
                self._board.close()

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            logging.warning("metrics of step %s were not written: %s", record["step"], error)


def _open_board(folder: Path, first_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        logging.warning("no TensorBoard files: install tensorboardX (the [data] extra has it)")
        return None
    return SummaryWriter(str(folder), purge_step=first_step or None)


def _drop_after(path: Path, first_step: int) -> None:
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


class Progress:
    """Step time, share of it spent waiting for input, examples a second and time left."""

    def __init__(self, first_step: int, total_steps: int):
        self._total = total_steps
        self._step, self._time = first_step, time.perf_counter()
        self._examples, self._waited = 0, 0.0

    def count(self, examples: int, waited_s: float) -> None:
        """Adds one step: how many examples it held and how long the loop waited for them."""
        self._examples += examples
        self._waited += waited_s

    def report(self, step: int) -> dict[str, float]:
        """Rates since the last report; starts a new interval."""
        now = time.perf_counter()
        elapsed, steps = max(now - self._time, 1e-9), max(step - self._step, 1)
        rates = {
            "step_time_s": elapsed / steps,
            "examples_per_s": self._examples / elapsed,
            "input_wait_share": self._waited / elapsed,
            "eta_s": elapsed / steps * (self._total - step),
        }
        self._step, self._time, self._examples, self._waited = step, now, 0, 0.0
        return rates


class CompileCounter:
    """Counts XLA compilations of this process; after the first of each shape there must be none."""

    _EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self):
        self.count, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_s: float, **_: Any) -> None:
        if event == self._EVENT:
            self.count += 1
            self.seconds += duration_s
