"""Staged files take their places in a folder of results, all of them or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from mvdust3r_jax.storage import manifest
from mvdust3r_jax.storage.atomic import open_to_others
from mvdust3r_jax.storage.manifest import Manifest, ResultsError

STAGE_PREFIX = ".partial-"
# Where earlier files lie while new ones take their places, with the manifest that is to be.
EARLIER_PREFIX = ".earlier-"


def is_stage(path: Path) -> bool:
    """Whether it is where a run prepares its results, or prepared them until it was killed."""
    return (
        path.name.startswith((STAGE_PREFIX, EARLIER_PREFIX))
        and path.is_dir()
        and not path.is_symlink()
    )


def join(stage: Path, folder: Path, told: Path, parts: Collection[str] | None) -> None:
    """Moves the staged files to their places, and earlier ones that they replace away."""
    new = sorted(p.relative_to(stage) for p in stage.rglob("*") if not p.is_dir())
    files = manifest.read(folder)
    taken = [name for name in new if (folder / name).is_dir()]
    if taken:
        raise ResultsError(f"{told / taken[0]} is a folder; a file is to be written there")
    manifest.refuse_foreign(folder, told, new, files)
    written = {name.as_posix(): manifest.facts_of(stage / name) for name in new}
    gone = [
        name
        for name in files
        if (name not in written and (parts is None or Path(name).parts[0] in parts))
    ]
    kept = {name: facts for name, facts in files.items() if name not in (*gone, *written)}
    replaced = [name for name in (*gone, *written) if manifest.is_ours(folder, name, files)]
    _swap(stage, folder, list(written), replaced, kept | written)
    for name in gone:
        remove_empty([p for p in (folder / name).parents if folder in p.parents])


def _swap(
    stage: Path, folder: Path, written: list[str], replaced: list[str], files: Manifest
) -> None:
    """All moves and the manifest of ``files``, or none: what was done is undone when one fails.

    Of a process that is killed here the next one undoes it.
    """
    old = Path(tempfile.mkdtemp(prefix=EARLIER_PREFIX, dir=folder))
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
        done.append((source, target))

    try:
        manifest.write(old, files)
        for name in replaced:
            move(folder / name, old / name)
        for empty in [p for p in stage.rglob("*") if p.is_dir()]:
            (folder / empty.relative_to(stage)).mkdir(parents=True, exist_ok=True)
        for name in written:
            if os.path.lexists(folder / name):
                raise ResultsError(f"{folder / name} has appeared meanwhile; it stays")
            open_to_others(stage / name)
            move(stage / name, folder / name)
        manifest.write(folder, files)
    except BaseException:
        for source, target in reversed(done):
            os.rename(target, source)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def undo_half_done(place: Path) -> None:
    """Earlier files go back where a killed run's swap had not come to its end."""
    for old in place.glob(f"{EARLIER_PREFIX}*"):
        if not is_stage(old):
            continue
        wanted, files = manifest.read(old), manifest.read(place)
        if wanted != files:
            for name in wanted:
                if wanted[name] != files.get(name) and manifest.is_ours(place, name, wanted):
                    (place / name).unlink()
            for name in files:
                if os.path.lexists(old / name) and not os.path.lexists(place / name):
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(old / name, place / name)
        shutil.rmtree(old, ignore_errors=True)


def remove_empty(folders: Collection[Path]) -> None:
    """Removes these folders, inner ones first, up to one that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
