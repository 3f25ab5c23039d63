"""Where numbers go: JSON lines, and TensorBoard.

One process writes. A resumed run first drops the records of steps it is about to repeat, so every
step stands once in the file. What cannot be written (a full disk) is reported and lost; the run
goes on.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float
from PIL import Image

from mvdust3r_jax.storage import places
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.places import AnyPath


class MetricLog:
    """Appends ``{"step": k, "kind": ..., name: value, ...}`` lines to ``metrics.jsonl``.

    In a bucket (``gs://...``) files appear half a minute late, and with every checkpoint. path: of
    this process's file, None where it writes none.
    """

    def __init__(
        self,
        workdir: AnyPath,
        first_step: int,
        *,
        tensorboard: bool,
        active: bool = True,
        judged_again: bool = False,
    ):
        """first_step: the last one of an earlier run; judged_again: it is evaluated once more."""
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
        _drop_after(self.path, first_step, judged_again)
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


def _open_board(folder: AnyPath, first_step: int) -> Any:
    # tensorboardX imports Google's storage, which takes longer than JAX: only where it is used.
    try:
        from mvdust3r_jax.training.tensorboard import Board
    except ImportError:
        logging.warning("no TensorBoard files: install tensorboardX (the [data] extra has it)")
        return None
    return Board(folder, first_step)


def _drop_after(path: AnyPath, first_step: int, judged_again: bool) -> None:
    """Keeps records up to ``first_step``, without its evaluation where that is repeated.

    Where a run begins anew beside records of one that had come to a checkpoint, these are kept
    under another name.
    """
    if not path.exists():
        return
    kept, earned = [], False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run was killed
        if not isinstance(record, dict):
            continue
        step, kind = record.get("step", 0), record.get("kind", "")
        repeated = judged_again and step == first_step and kind.startswith("eval_")
        if step <= first_step and first_step > 0 and not repeated:
            kept.append(line)
        earned |= kind == "checkpoint" or kind.startswith("eval_")
    if not first_step and earned:
        _move_aside(path)
        return
    whole = path.with_suffix(".tmp")
    whole.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(whole, path)


def _move_aside(path: AnyPath) -> None:
    names = (f"{path.stem}.earlier{n and f'-{n}' or ''}{path.suffix}" for n in itertools.count())
    target = next(place for place in map(path.with_name, names) if not place.exists())
    os.replace(path, target)
    logging.warning("%s is of a run whose checkpoints are gone; it is now %s", path, target.name)
