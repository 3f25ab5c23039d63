"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Two threads at once would each take the other's for the process's.
_reading = threading.Lock()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path in ``path``'s folder that becomes ``path`` when the block succeeds.

    The temporary keeps the suffix (encoders choose the format by it) and is removed on any
    failure, Ctrl-C included. The parent folder is made if it does not exist.
    """
    path = Path(path)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        open_to_others(partial)
        with writable(path):
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file_or_folder(path: Path) -> Iterator[Path]:
    """As `whole_file`; the block makes a file or a folder of the path it is given.

    A folder that is at ``path`` is replaced: whether it may be is the caller's to know.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with _moved_aside(path):
            os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


@contextmanager
def _moved_aside(path: Path) -> Iterator[None]:
    """A folder of that name makes room: gone if the block succeeds, else back in its place."""
    if not path.is_dir():
        yield
        return
    earlier = path.with_name(f".earlier-{os.getpid()}-{path.name}")
    os.replace(path, earlier)
    try:
        yield
    except BaseException:
        os.replace(earlier, path)
        raise
    shutil.rmtree(earlier)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Errors name the place that was asked for, not the temporary beside it."""
    try:
        yield
    except OSError as error:
        told = OSError(error.errno, f"cannot be written: {error.strerror}", str(path))
        told.add_note("choose a place that can be written to")
        raise told from error


def open_to_others(partial: Path) -> None:
    """Gives a temporary file, which is its owner's alone, the mode of any new file."""
    # File systems without modes (FAT, some shares) refuse; all of their files have the same.
    with suppress(OSError):
        os.chmod(partial, 0o666 & ~_umask())


def _umask() -> int:
    """The process's umask; reading it means setting it, so it is set straight back."""
    with _reading:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
