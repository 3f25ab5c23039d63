"""The folder that ``--out`` names: what may lie there, and what a run takes away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mvdust3r_jax.storage.results import check_names, files_of, is_results_folder, settle
from mvdust3r_jax.storage.swap import is_stage

# What file managers leave in any folder that was looked at.
_OF_THE_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini", ".directory")


def check_output_folder(folder: Path, names: Sequence[str], beside: Path | None = None) -> None:
    """That ``names`` can be written: into a new folder, an empty one, or one of an earlier run.

    One that was killed may have left nothing but its stage.

    beside: a path that may lie in the folder, too.

    Raises:
      ValueError: it holds other things alone, or a foreign file has one of the names.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out names a folder")
    settle(folder)
    place = folder.resolve()
    within = beside is not None and place in (beside.resolve(), *beside.resolve().parents)
    allowed = beside.resolve().relative_to(place).parts[:1] if within else ()
    there = folder.iterdir() if folder.exists() else ()
    found = [path.name for path in there if not is_stage(path)]
    foreign = sorted({*found} - {*_OF_THE_SYSTEM, *allowed})
    if foreign and not is_results_folder(folder):
        raise ValueError(
            f"{folder} holds other things ({', '.join(foreign[:3])}); choose an empty or new folder"
        )
    check_names(folder, names)


def check_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """That no input is a result of an earlier run in the folder: the next one takes these away.

    Raises:
      ValueError: naming the first one that is, or that is a folder in there with results.
    """
    out, own = folder.resolve(), {file.resolve() for file in files_of(folder)}
    for path in inputs:
        place = path.resolve()
        # Of a folder only what lies directly in it is read: one around ``--out`` is another's.
        inside = out in (place, *place.parents)
        if place in own or (inside and any(place in file.parents for file in own)):
            raise ValueError(
                f"{path} is a result of the run whose folder is {folder}, and would be replaced; "
                "choose another --out"
            )
