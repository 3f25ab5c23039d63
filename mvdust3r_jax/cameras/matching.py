"""Which camera of a file is a photograph's: the longest end of the path that both share.

Endings do not count, composed and decomposed letters are the same, and so are the separators of
Windows; exported names have "_" for white space and what disks refuse, and are made distinct
(`media.names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from mvdust3r_jax.cameras.entries import CameraError, Entry
from mvdust3r_jax.media.names import (
    distinct,
    numbered,
    path_parts,
    portable,
    printable,
    without_ending,
)


def matched(path: Path, names: Sequence[str], entries: Sequence[Entry]) -> list[Entry]:
    """The entry of each photograph; CameraError where there is none, or more than one."""
    parts = [_parts(entry.name) for entry in entries]
    by_spelling: dict[str, list[int]] = {}
    for i, theirs in enumerate(parts):
        for spelling in _spellings(theirs[-1]) if theirs else ():
            by_spelling.setdefault(spelling, []).append(i)
    found, missing, taken = [], [], {}
    own = distinct([PurePath(n).name for n in names], [PurePath(n).parent.name for n in names])
    for k, name in enumerate(names):
        ours = _parts(name)
        named = (ours[-1], own[k], numbered(k, portable(own[k])))
        spelled = next((s for s in map(_spellings, named) if s & by_spelling.keys()), set())
        candidates = sorted({i for s in spelled for i in by_spelling.get(s, ())})
        if not candidates:
            missing.append(name)
            continue
        chosen = _best(path, name, ours, candidates, parts, entries)
        other = taken.setdefault(chosen, name)
        if other != name:
            camera = entries[chosen].name
            raise CameraError(f"{path} has one camera, {camera}, for both {other} and {name}")
        found.append(entries[chosen])
    if missing:
        raise CameraError(f"{path} has no camera for {few(missing)}")
    return found


def _best(path, name, ours, candidates: list[int], parts, entries: Sequence[Entry]) -> int:
    scores = [_likeness(ours, parts[i]) for i in candidates]
    likely = [i for i, score in zip(candidates, scores, strict=True) if score == max(scores)]
    if not all(_equal(entries[likely[0]], entries[i]) for i in likely[1:]):
        several = ", ".join(entries[i].name for i in likely[:3])
        raise CameraError(f"{path}: the camera of {name} may be any of {several}")
    return likely[0]


def _equal(a: Entry, b: Entry) -> bool:
    """Whether two cameras are the same one, told twice."""
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


def _likeness(ours: list[str], theirs: list[str]) -> tuple[int, bool]:
    """(how many last parts of two paths agree, file endings aside; whether the endings do)."""
    same = 1
    for a, b in zip(ours[-2::-1], theirs[-2::-1], strict=False):
        if a != b:
            break
        same += 1
    return same, ours[-1] == theirs[-1]


def _parts(path: str) -> list[str]:
    return path_parts(printable(path))


def _spellings(name: str) -> set[str]:
    """A file's name with and without ending, as exports have it."""
    return {portable(text) for text in (name, without_ending(name))}


def few(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    bare = [printable(PurePath(name).name) for name in names]
    return ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")
