"""Folders of results: this program's own files told from everybody else's by a manifest.

Whatever is written into a `results_folder` is staged first and appears together or not at all. Of
what lies there already only files that the manifest names, unchanged since they were written, are
replaced or removed; a file of the user's, or one of ours that was edited, stays, and is an error
where a new one needs its name. One process writes into a folder at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mvdust3r_jax.storage import locks
from mvdust3r_jax.storage.atomic import open_to_others, whole_file, writable

MANIFEST = ".mvdust3r.json"
_FORMAT = 1
_STAGE_PREFIX = ".partial-"
# Where earlier files lie while new ones take their places, with the manifest that is to be.
_EARLIER_PREFIX = ".earlier-"


class _Stage(NamedTuple):
    """place: the folder whose results it will become. parts: as of `results_folder`."""

    place: Path
    parts: Collection[str] | None


# Stages in use by this process.
_stages: dict[Path, _Stage] = {}


class ResultsError(ValueError):
    """A folder that results cannot be written into; the message says why and what to do."""


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
        stage = Path(tempfile.mkdtemp(prefix=_STAGE_PREFIX, dir=place))
    try:
        with _locked(place, folder) as alone:
            if alone:
                _undo_half_done(place)
                _remove_stale(place, stage)
            _stages[stage] = _Stage(place, parts)
            yield stage
            _join(stage, place, folder, parts)
    finally:
        _stages.pop(stage, None)
        shutil.rmtree(stage, ignore_errors=True)
        _remove_empty(made)


def settle(folder: str | os.PathLike) -> None:
    """Puts back what a run that was killed had moved away; nothing where there are no locks.

    Raises:
      ResultsError: another process writes there.
    """
    place = Path(folder).resolve()
    if place.is_dir():
        with _locked(place, Path(folder)) as alone:
            if alone:
                _undo_half_done(place)


def check_names(folder: str | os.PathLike, names: Collection[str]) -> None:
    """That results of these names could be written, before anything costly is done for them.

    Raises:
      ResultsError: naming foreign files in the way.
    """
    folder = Path(folder)
    if folder.is_dir():
        _refuse_foreign(folder, folder, [Path(name) for name in names], _read_manifest(folder))


def is_results_folder(folder: str | os.PathLike) -> bool:
    """Whether an earlier run's manifest is there."""
    return (Path(folder) / MANIFEST).is_file()


def is_stage(path: Path) -> bool:
    """Whether it is where a run prepares its results, or prepared them until it was killed."""
    return (
        path.name.startswith((_STAGE_PREFIX, _EARLIER_PREFIX))
        and path.is_dir()
        and not path.is_symlink()
    )


def files_of(folder: str | os.PathLike) -> list[Path]:
    """What earlier runs have written into the folder, as their manifest says."""
    return [Path(folder) / name for name in _read_manifest(Path(folder))]


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


def _remove_empty(folders: Collection[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _remove_stale(place: Path, own: Path) -> None:
    """Stages of runs that were killed: whoever holds the lock is alone here."""
    for stage in place.glob(f"{_STAGE_PREFIX}*"):
        if stage != own and is_stage(stage):
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


# ---------------------------------------------------------------- manifest

# Path below the folder, with slashes -> size and SHA-256 when it was written.
Manifest = dict[str, dict[str, int | str]]


def _read_manifest(folder: Path) -> Manifest:
    """What earlier runs wrote; nothing where the manifest is missing, or is no such file."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = content["files"] if content["format"] == _FORMAT else {}
        return {name: dict(facts) for name, facts in files.items() if _lies_inside(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _lies_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _write_manifest(folder: Path, files: Manifest) -> None:
    says = "Files that mvdust3r wrote; only these are replaced or removed by a later run."
    content = {"format": _FORMAT, "about": says, "files": dict(sorted(files.items()))}
    with whole_file(folder / MANIFEST) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _facts(path: Path) -> dict[str, int | str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _is_ours(folder: Path, name: str, files: Manifest) -> bool:
    """Whether the file is there as an earlier run left it."""
    path = folder / name
    if name not in files or not path.is_file() or _behind_a_link(folder, Path(name)):
        return False
    facts = files[name]
    return path.stat().st_size == facts.get("size") and _facts(path) == facts


def _behind_a_link(folder: Path, name: Path) -> bool:
    return any((folder / part).is_symlink() for part in (name, *name.parents))


def _refuse_foreign(folder: Path, told: Path, names: list[Path], files: Manifest) -> None:
    """ResultsError if something that is not ours has one of the names, or lies on the way."""
    foreign = set()
    for name in names:
        on_the_way = [p for p in name.parents if p.name and os.path.lexists(folder / p)]
        foreign |= {p for p in on_the_way if not (folder / p).is_dir() or (folder / p).is_symlink()}
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            continue  # its files are looked at one by one
        if os.path.lexists(path) and not _is_ours(folder, name.as_posix(), files):
            foreign.add(name)
    if foreign:
        listed = ", ".join(str(told / name) for name in sorted(foreign)[:3])
        raise ResultsError(
            f"{listed}: not written by this program, or changed since; it stays. Move it away, or "
            "choose another folder"
        )


# ---------------------------------------------------------------- the swap


def _join(stage: Path, folder: Path, told: Path, parts: Collection[str] | None) -> None:
    """Moves the staged files to their places, and earlier ones that they replace away."""
    new = sorted(p.relative_to(stage) for p in stage.rglob("*") if not p.is_dir())
    files = _read_manifest(folder)
    taken = [name for name in new if (folder / name).is_dir()]
    if taken:
        raise ResultsError(f"{told / taken[0]} is a folder; a file is to be written there")
    _refuse_foreign(folder, told, new, files)
    written = {name.as_posix(): _facts(stage / name) for name in new}
    gone = [
        name
        for name in files
        if (name not in written and (parts is None or Path(name).parts[0] in parts))
    ]
    kept = {name: facts for name, facts in files.items() if name not in (*gone, *written)}
    replaced = [name for name in (*gone, *written) if _is_ours(folder, name, files)]
    _swap(stage, folder, list(written), replaced, kept | written)
    for name in gone:
        _remove_empty([p for p in (folder / name).parents if folder in p.parents])


def _swap(
    stage: Path, folder: Path, written: list[str], replaced: list[str], files: Manifest
) -> None:
    """All moves and the manifest of ``files``, or none: what was done is undone when one fails.

    Of a process that is killed here the next one undoes it.
    """
    old = Path(tempfile.mkdtemp(prefix=_EARLIER_PREFIX, dir=folder))
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
        done.append((source, target))

    try:
        _write_manifest(old, files)
        for name in replaced:
            move(folder / name, old / name)
        for empty in [p for p in stage.rglob("*") if p.is_dir()]:
            (folder / empty.relative_to(stage)).mkdir(parents=True, exist_ok=True)
        for name in written:
            if os.path.lexists(folder / name):
                raise ResultsError(f"{folder / name} has appeared meanwhile; it stays")
            open_to_others(stage / name)
            move(stage / name, folder / name)
        _write_manifest(folder, files)
    except BaseException:
        for source, target in reversed(done):
            os.rename(target, source)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _undo_half_done(place: Path) -> None:
    """Earlier files go back where a killed run's swap had not come to its end."""
    for old in place.glob(f"{_EARLIER_PREFIX}*"):
        if not is_stage(old):
            continue
        wanted, files = _read_manifest(old), _read_manifest(place)
        if wanted != files:
            for name in wanted:
                if wanted[name] != files.get(name) and _is_ours(place, name, wanted):
                    (place / name).unlink()
            for name in files:
                if os.path.lexists(old / name) and not os.path.lexists(place / name):
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(old / name, place / name)
        shutil.rmtree(old, ignore_errors=True)
