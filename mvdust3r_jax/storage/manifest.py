"""The manifest of a folder of results: which of its files this program wrote, and how.

It holds size and SHA-256 of each: a file that was edited since is the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath

from mvdust3r_jax.storage.atomic import whole_file

MANIFEST = ".mvdust3r.json"
_FORMAT = 1

# Path below the folder, with slashes -> size and SHA-256 when it was written.
Manifest = dict[str, dict[str, int | str]]


class ResultsError(ValueError):
    """A folder that results cannot be written into; the message says why and what to do."""


def read(folder: Path) -> Manifest:
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


def write(folder: Path, files: Manifest) -> None:
    """Replaces the folder's manifest, whole or not at all."""
    says = "Files that mvdust3r wrote; only these are replaced or removed by a later run."
    content = {"format": _FORMAT, "about": says, "files": dict(sorted(files.items()))}
    with whole_file(folder / MANIFEST) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def facts_of(path: Path) -> dict[str, int | str]:
    """What a manifest says of a file that is as it is now."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def is_ours(folder: Path, name: str, files: Manifest) -> bool:
    """Whether the file is there as an earlier run left it."""
    path = folder / name
    if name not in files or not path.is_file() or _behind_a_link(folder, Path(name)):
        return False
    facts = files[name]
    return path.stat().st_size == facts.get("size") and facts_of(path) == facts


def _behind_a_link(folder: Path, name: Path) -> bool:
    return any((folder / part).is_symlink() for part in (name, *name.parents))


def refuse_foreign(folder: Path, told: Path, names: list[Path], files: Manifest) -> None:
    """ResultsError if something that is not ours has one of the names, or lies on the way."""
    foreign = set()
    for name in names:
        on_the_way = [p for p in name.parents if p.name and os.path.lexists(folder / p)]
        foreign |= {p for p in on_the_way if not (folder / p).is_dir() or (folder / p).is_symlink()}
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            continue  # its files are looked at one by one
        if os.path.lexists(path) and not is_ours(folder, name.as_posix(), files):
            foreign.add(name)
    if foreign:
        listed = ", ".join(str(told / name) for name in sorted(foreign)[:3])
        raise ResultsError(
            f"{listed}: not written by this program, or changed since; it stays. Move it away, or "
            "choose another folder"
        )
