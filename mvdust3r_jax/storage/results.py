"""Folders of results: this program's own files told from everybody else's by a manifest.

Whatever is written into a `results_folder` is staged first and appears together or not at all. Of
what lies there already only files that the manifest names, unchanged since they were written, are
replaced or removed; a file of the user's, or one of ours that was edited, stays, and is an error
where a new one needs its name. One process writes into a folder at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mvdust3r_jax.storage import locks, manifest, swap
from mvdust3r_jax.storage.atomic import writable
from mvdust3r_jax.storage.manifest import MANIFEST, ResultsError


class _Stage(NamedTuple):
    """place: the folder whose results it will become. parts: as of `results_folder`."""

    place: Path
    parts: Collection[str] | None


# Stages in use by this process.
_stages: dict[Path, _Stage] = {}


@contextmanager
def results_folder(folder: str | os.PathLike, parts: Collection[str] | None = None):
    """A stage whose files become files of ``folder`` when the block succeeds.

    Inside another stage it is a plain folder of that one.

    Args:
      folder: is made if it does not exist; links are followed.
      parts: names directly below ``folder``: of what an earlier run wrote, only these may go when
        they are not written again; by default all. It is looked at when the block has ended.

    Raises:
      ResultsError: another process writes there, or a foreign file has a name that is needed.
      OSError: it cannot be written to.
    """
    folder = Path(folder)
    if _stage_of(folder) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder is to be written there")
    with writable(folder):
        place = folder.resolve()
        made = _make_folders(place)
        stage = Path(tempfile.mkdtemp(prefix=swap.STAGE_PREFIX, dir=place))
    try:
        with _locked(place, folder) as alone:
            if alone:
                swap.undo_half_done(place)
                _remove_stale(place, stage)
            _stages[stage] = _Stage(place, parts)
            yield stage
            swap.join(stage, place, folder, parts)
    finally:
        _stages.pop(stage, None)
        shutil.rmtree(stage, ignore_errors=True)
        swap.remove_empty(made)


def settle(folder: str | os.PathLike) -> None:
    """Puts back what a run that was killed had moved away; nothing where there are no locks.

    Raises:
      ResultsError: another process writes there.
    """
    place = Path(folder).resolve()
    if place.is_dir():
        with _locked(place, Path(folder)) as alone:
            if alone:
                swap.undo_half_done(place)


def check_names(folder: str | os.PathLike, names: Collection[str]) -> None:
    """That results of these names could be written, before anything costly is done for them.

    Raises:
      ResultsError: naming foreign files in the way.
    """
    folder = Path(folder)
    if folder.is_dir():
        files = manifest.read(folder)
        manifest.refuse_foreign(folder, folder, [Path(name) for name in names], files)


def is_results_folder(folder: str | os.PathLike) -> bool:
    """Whether an earlier run's manifest is there."""
    return (Path(folder) / MANIFEST).is_file()


def files_of(folder: str | os.PathLike) -> list[Path]:
    """What earlier runs have written into the folder, as their manifest says."""
    return [Path(folder) / name for name in manifest.read(Path(folder))]


def parts_of(folder: str | os.PathLike) -> set[str]:
    """Names directly below the folder that earlier runs have written."""
    return {file.relative_to(folder).parts[0] for file in files_of(folder)}


def abandon_stages() -> None:
    """Removes what is staged: for a process that ends without leaving its blocks."""
    for stage in list(_stages):
        shutil.rmtree(stage, ignore_errors=True)


def where_it_stands(path: Path) -> Path:
    """A path inside a stage; what is not there, but stays in the folder itself, is found there."""
    stage = _stage_of(path)
    if stage is None or os.path.exists(path):
        return path
    place, parts = _stages[stage]
    name = path.relative_to(stage)
    return path if parts is None or name.parts[0] in parts else place / name


def _stage_of(path: Path) -> Path | None:
    # Other threads may begin and end stages of theirs meanwhile.
    return next((stage for stage in list(_stages) if stage in (path, *path.parents)), None)


def _make_folders(place: Path) -> list[Path]:
    """Makes the folder; returns those that were missing, innermost first."""
    missing = [p for p in (place, *place.parents) if not p.exists()]
    place.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_stale(place: Path, own: Path) -> None:
    """Stages of runs that were killed: whoever holds the lock is alone here."""
    for stage in place.glob(f"{swap.STAGE_PREFIX}*"):
        if stage != own and swap.is_stage(stage):
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _locked(place: Path, told: Path) -> Iterator[bool]:
    """Holds the folder's lock, which ends with the process; False where there are no locks."""
    if not locks.EXIST:
        yield False
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        try:
            held = locks.lock(handle)
        except BlockingIOError:
            raise ResultsError(
                f"another run is writing into {told}; wait for it, or choose another folder"
            ) from None
        yield held
    finally:
        os.close(handle)
