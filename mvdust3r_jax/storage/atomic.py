"""Files that appear whole or not at all: written beside their place, then renamed onto it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path in ``path``'s folder that becomes ``path`` when the block succeeds.

    The temporary keeps the suffix (encoders choose the format by it) and is removed on any
    failure, Ctrl-C included. The parent folder is made if it does not exist.
    """
    path = Path(path)
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block succeeds.

    An earlier folder of that name is replaced, through a link too, and goes only once the new one
    has its name. A mount point cannot be renamed: its content is replaced entry by entry. A file
    of that name is an error.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a folder is to be written there")
    with _writable(path):
        # A link stays as it is; the folder that it leads to is replaced.
        place = path.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=_workplace(place)))
    try:
        yield partial
        os.chmod(partial, 0o777 & ~_umask())
        _replace_folder(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _workplace(place: Path) -> Path:
    """Where the temporary is made: beside ``place``, or in it where that may not be written."""
    fixed = place.is_dir() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK))
    return place if fixed else place.parent


def _replace_folder(new: Path, place: Path) -> None:
    """Give the folder ``new`` the name ``place``; the old one is back if that breaks off."""
    old = new.with_name(f"{new.name}-old")
    try:
        if place.exists():
            try:
                os.rename(place, old)
            except OSError:
                _replace_content(new, place)
                return
        os.rename(new, place)
    except BaseException:
        if old.exists() and not place.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replace_content(new: Path, place: Path) -> None:
    """Entries of ``new`` take the place of those in ``place``; nothing else stays there."""
    entries = list(new.iterdir())
    kept = {new.name, *(entry.name for entry in entries)}
    for entry in entries:
        target = place / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        shutil.move(entry, target)
    for entry in [entry for entry in place.iterdir() if entry.name not in kept]:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Errors name the place that was asked for, not the temporary beside it."""
    try:
        yield
    except OSError as error:
        told = OSError(error.errno, f"cannot be written: {error.strerror}", str(path))
        told.add_note("choose a place that can be written to")
        raise told from error


def _umask() -> int:
    """The process's umask; reading it means setting it, so it is set straight back."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
