"""Photographs and videos that a browser sends, and the one reconstruction that may run.

Files are stored under names made here, in a temporary folder that is removed at the end; a file's
own name is a label and never a path.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from mvdust3r_jax.media.video_frames import SUFFIXES
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.requests import (
    Limits,
    Refused,
    Wishes,
    checked_order,
    checked_wishes,
    label_of,
    photograph_suffix,
    video_suffix,
)

_COPIED_AT_ONCE = 1 << 20
# A stored file and what the user calls it.
Sent = tuple[Path, str]
# How a job tells how far it is: share done in [0, 1], and a phrase.
Progress = Callable[[float, str], None]
# Files, a progress callback and wishes in, a scene out.
Reconstruct = Callable[[list[Path], Progress, Wishes], SceneArrays]


@runtime_checkable
class Show(Protocol):
    """Where a scene goes; sources: its photographs, if they are files."""

    def __call__(self, scene: SceneArrays, sources: Sequence[Path] | None) -> None: ...


class Canceled(Exception):
    """The page's user does not want the job any more."""


class Session:
    """The files being collected, and the one job that may run.

    Those of the last job stay until the next one, for downloads that hold photographs.
    """

    def __init__(self, reconstruct: Reconstruct, show: Show, limits: Limits) -> None:
        self.reconstruct, self.show, self.limits = reconstruct, show, limits
        self._folder = tempfile.TemporaryDirectory(prefix="mvdust3r-")
        self._lock = threading.Lock()
        self._photographs: list[Sent] = []
        self._last: list[Sent] = []
        self._canceled = False
        self._status = {"state": "idle", "share": 0.0, "message": ""}

    def close(self) -> None:
        """Remove the photographs."""
        self._folder.cleanup()

    @property
    def status(self) -> dict:
        """A copy: state (idle, running, done, failed, canceled), share, message, photographs."""
        with self._lock:
            return {**self._status, "photographs": len(self._photographs)}

    def add(self, name: str, data: bytes) -> None:
        """Store one photograph; Refused if it is none, or too large, or one too many.

        Only the header is decoded here. A file's own name is kept as a label and never as a path.
        """
        suffix = photograph_suffix(data, self.limits.pixels_each, name)
        with self._lock:
            path = self._place(suffix)
            path.write_bytes(data)
            self._photographs.append((path, label_of(name, len(self._photographs))))

    def add_video(self, name: str, stream: BinaryIO, size: int) -> None:
        """Store ``size`` bytes of a video; its decoder judges them at the start."""
        suffix = video_suffix(name)
        with self._lock:
            path = self._place(suffix)
        left = size
        try:
            with open(path, "wb") as file:
                while left and (part := stream.read(min(left, _COPIED_AT_ONCE))):
                    file.write(part)
                    left -= len(part)
            if left:
                raise Refused(HTTPStatus.BAD_REQUEST, "the upload broke off")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._photographs.append((path, label_of(name, len(self._photographs))))

    def _place(self, suffix: str) -> Path:
        """Where the next file goes; Refused if none may."""
        self._refuse_while_running()
        if len(self._photographs) >= self.limits.photographs:
            most = self.limits.photographs
            raise Refused(HTTPStatus.CONFLICT, f"no more than {most} photographs at once")
        return Path(self._folder.name) / f"{secrets.token_hex(8)}{suffix}"

    def _refuse_while_running(self) -> None:
        if self._status["state"] == "running":
            raise Refused(HTTPStatus.CONFLICT, "a reconstruction is running")

    def start(self, asked: dict[str, Any] | None = None) -> None:
        """Reconstruct what was collected, in a thread; Refused if that cannot be.

        asked: ``order`` (numbers of the files, those that are missing are left out), and the fields
        of `Wishes`.
        """
        asked = asked or {}
        with self._lock:
            self._refuse_while_running()
            order = checked_order(asked.get("order"), len(self._photographs))
            job = [self._photographs[number] for number in order]
            if len(job) < 2 and not _has_video(job):
                raise Refused(HTTPStatus.BAD_REQUEST, "at least two photographs are needed")
            wishes = checked_wishes(asked, len(job), self.limits)
            every, self._photographs, self._canceled = self._photographs, [], False
            self._status = {"state": "running", "share": 0.0, "message": "starting"}
        threading.Thread(target=self._run, args=(job, every, wishes), daemon=True).start()

    def cancel(self) -> None:
        """The running job ends when it next tells how far it is."""
        with self._lock:
            if self._status["state"] == "running":
                self._canceled = True
                self._status["message"] = "will stop after this step"

    def clear(self) -> None:
        """Forget what was collected."""
        with self._lock:
            job, self._photographs = self._photographs, []
        _remove(job)

    def _run(self, job: list[Sent], every: list[Sent], wishes: Wishes) -> None:
        try:
            count = self._reconstruct(job, wishes)
            with self._lock:
                gone = [file for file in (*self._last, *every) if file not in job]
                self._last = job
            _remove(gone)
            self._set("done", 1.0, f"{count} views reconstructed")
        except Canceled:
            self._give_back(every)
            self._set("canceled", 0.0, "canceled")
        # Whatever goes wrong in the job is the browser's to hear of; the server goes on.
        except Exception as error:
            self._give_back(every)
            self._set("failed", 0.0, _with_labels(str(error) or type(error).__name__, job))

    def _give_back(self, every: list[Sent]) -> None:
        """The files can be reconstructed again, in another way, with what has come meanwhile."""
        with self._lock:
            self._photographs = [*every, *self._photographs]

    def _reconstruct(self, job: list[Sent], wishes: Wishes) -> int:
        """Reconstruct and show; how many views there are."""
        paths = [path for path, _ in job]
        scene = self.reconstruct(paths, self._progress, wishes)
        self._progress(1.0, "showing")
        are_views = len(scene.names) == len(job) and not _has_video(job)
        if are_views:
            scene.names = [label for _, label in job]
        else:
            scene.names = [_with_labels(name, job) for name in scene.names]
        self.show(scene, paths if are_views else None)
        return len(scene.names)

    def _progress(self, share: float, message: str) -> None:
        if self._canceled:
            raise Canceled
        self._set("running", min(max(float(share), 0.0), 1.0), message)

    def _set(self, state: str, share: float, message: str) -> None:
        with self._lock:
            self._status = {"state": state, "share": share, "message": message}


def _with_labels(text: str, job: list[Sent]) -> str:
    """Files called what the user calls them, wherever a sentence has the names made here."""
    for path, label in job:
        text = text.replace(str(path), label).replace(path.name, label)
        text = text.replace(path.stem, Path(label).stem)  # frames of a video
    return text


def _has_video(job: list[Sent]) -> bool:
    return any(path.suffix in SUFFIXES for path, _ in job)


def _remove(job: list[Sent]) -> None:
    for path, _ in job:
        path.unlink(missing_ok=True)
