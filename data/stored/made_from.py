"""What a stored data set was made from: kept beside it, compared when it is built or read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.places import local_path

# In a data set's folder.
RECORD = "made_from.json"
# Names of which records of earlier versions say nothing.
_LATER = {"cameras", "files"}


class StaleDataError(ValueError):
    """What lies there was made from other options or other files; the message says from which."""


def check_record(folder: Path, made_from: dict, begun: bool) -> None:
    """Keep what the data set is made from; StaleDataError where one made otherwise lies there.

    begun: whether anything of a data set lies in the folder.
    """
    path, wanted = folder / RECORD, json.loads(json.dumps(made_from))
    if not begun:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(wanted, indent=1) + "\n")
        return
    if not path.is_file():
        raise StaleDataError(
            f"{folder} does not say what it was made from; remove it, or choose another place"
        )
    found = _read(path)
    names = [name for name in {**found, **wanted} if name in found or name not in _LATER]
    told = [
        f"{name} {_change(found.get(name), wanted.get(name))}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]
    if told:
        raise StaleDataError(
            f"{folder} was made otherwise ({'; '.join(told)}); remove it, or choose another place"
        )


def _read(path: Path) -> dict:
    """The record; StaleDataError where it is none."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StaleDataError(
            f"{path} is damaged, so that nothing says what the data set was made from; remove "
            f"{path.parent}, or choose another place"
        )
    return found


def _change(old: object, new: object) -> str:
    """``OLD -> NEW``; of objects with names the parts that differ, which may be one of many."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        old, new = ({name: part[name] for name in names if name in part} for part in (old, new))
    return f"{_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def digest(folder: str | Path) -> str:
    """Tells data sets made from other things apart; '' for one that does not say from what."""
    path = local_path(folder) / RECORD
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
