"""Places that a path can name: this machine's files, and objects in a bucket (``gs://...``).

Buckets are reached through etils' epath (extra ``[gcs]``); whoever reads or writes whole files
needs no more than the path that `as_path` gives. Objects of a bucket cannot be appended to, and
libraries in C cannot open them: `local_copy` and `Mirror` are for those.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEME = "gs://"
RECIPE = (
    "mount the bucket as a folder with Cloud Storage FUSE (gcsfuse BUCKET /mnt/bucket) and give "
    "that folder"
)

# A `pathlib.Path`, or the `epath.Path` of an object in a bucket, which has the same methods.
AnyPath = Any


class PlaceError(ValueError):
    """A path that cannot be used, told in one line."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether the path names an object or folder of a bucket."""
    return os.fspath(path).startswith(SCHEME)


def as_path(path: str | os.PathLike) -> Any:
    """A ``pathlib.Path``, or an ``epath.Path`` for ``gs://...``, which has the same methods.

    Raises:
      PlaceError: another scheme, or what buckets need is not installed.
    """
    text = os.fspath(path)
    if not is_remote(text):
        return local_path(text)
    if importlib.util.find_spec("gcsfs") is None:
        raise PlaceError(f"{text} needs the package gcsfs: pip install 'mvdust3r-jax[gcs]'")
    from etils import epath

    return epath.Path(text.rstrip("/"))


def local_path(path: str | os.PathLike) -> Path:
    """A path of this machine; the type of command-line arguments.

    "~" is the home folder also where a shell leaves it as it is (``--out=~/scene``).

    Raises:
      PlaceError: an address, which would silently become a folder of this name, no path at all,
      which would be the current folder, or "~" of a user without a home.
    """
    text = os.fspath(path)
    if not text:
        raise PlaceError("a path is expected, got '' (an empty variable?)")
    if text == "~" or text.startswith("~/"):
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise PlaceError(f"{text}: {error}") from error
    scheme, colon, rest = text.partition(":/")
    if colon and scheme.isalnum() and (rest.startswith("/") or scheme == "gs"):
        raise PlaceError(f"{text} is no folder or file of this machine; {RECIPE}")
    return Path(path)


def absolute(path: str | os.PathLike) -> Any:
    """The path from the root: what orbax wants."""
    path = as_path(path)
    return path if is_remote(path) else path.absolute()


def files_below(path: Any) -> list[Any]:
    """All files of a folder and its folders, in the order of their names."""
    if not is_remote(path):
        return sorted(found for found in Path(path).rglob("*") if found.is_file())
    found = [file for child in path.iterdir() for file in _files_of(child)]
    return sorted(found, key=str)


def _files_of(path: Any) -> list[Any]:
    return files_below(path) if path.is_dir() else [path]


@contextlib.contextmanager
def local_copy(path: Any) -> Iterator[Path]:
    """The file itself, or a copy of one in a bucket that lives as long as the block."""
    if not is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        fetch(path, copy)
        yield copy


@contextlib.contextmanager
def local_result(path: Any) -> Iterator[Path]:
    """Where a file or folder is written: the place itself, or one that goes into the bucket.

    Of a folder, files go there in the reverse order of their names; nothing does if the block
    fails.
    """
    if not is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / path.name
        yield result
        if result.is_file():
            store(result, path)
            return
        for file in reversed(files_below(result)):
            store(file, path / file.relative_to(result).as_posix())


@contextlib.contextmanager
def as_os_errors(path: Any) -> Iterator[None]:
    """What fails inside is an OSError: clients of buckets have errors of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


def fetch(path: Any, target: Path) -> None:
    """Copies one file of a bucket to this machine; OSError where that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with as_os_errors(path), path.open("rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)


def store(source: Path, path: Any) -> None:
    """Copies one file of this machine into a bucket, where it appears whole; or OSError."""
    with as_os_errors(path), source.open("rb") as file, path.open("wb") as target:
        shutil.copyfileobj(file, target, 2**20)


def remove_tree(folder: Any) -> None:
    """Removes a folder as far as that is possible."""
    if is_remote(folder):
        with contextlib.suppress(OSError), as_os_errors(folder):
            folder.rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def move_tree(folder: Any, target: Any) -> None:
    """Gives a folder another name; in a bucket its files are copied, and then removed."""
    if not is_remote(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        return
    for file in files_below(folder):
        file.copy(target / os.path.relpath(str(file), str(folder)))
    folder.rmtree()


class Mirror:
    """A local folder whose files are copied to a folder in a bucket when they have changed.

    For what is appended to, or written by libraries that know only files. `push` costs nothing when
    nothing has changed; ``every_s`` is the least time between two that are not forced.
    """

    def __init__(self, remote: Any, every_s: float = 30.0):
        self._remote, self._every_s = remote, every_s
        self.local = Path(tempfile.mkdtemp(prefix="mirror-"))
        self._sent: dict[Path, tuple[int, int]] = {}
        self._last = time.monotonic()

    def pull(self, *names: str) -> None:
        """Fetches files by their names in the folder, those that are there; none: all."""
        wanted = [self._remote / name for name in names] or self._everything()
        for path in wanted:
            if path.exists():
                target = self.local / os.path.relpath(str(path), str(self._remote))
                fetch(path, target)
                self._sent[target] = _stamp(target)

    def _everything(self) -> list[Any]:
        return files_below(self._remote) if self._remote.exists() else []

    def push(self, force: bool = True) -> None:
        """Copies what is new or has changed; unless forced, only when the last time is long ago.

        OSError where that fails; the next time tries again.
        """
        if not force and time.monotonic() - self._last < self._every_s:
            return
        self._last = time.monotonic()
        for path in files_below(self.local):
            stamp = _stamp(path)
            if self._sent.get(path) != stamp:
                store(path, self._remote / path.relative_to(self.local).as_posix())
                self._sent[path] = stamp

    def close(self) -> None:
        """Copies the rest and removes the local folder."""
        self.push()
        shutil.rmtree(self.local, ignore_errors=True)


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size
