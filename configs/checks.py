"""Checks of a configuration against the one that holds every field: names and types.

Training and evaluation share them. What is wrong is said in one line, with the closest right name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ml_collections


def closest(name: str, names: Iterable[str]) -> str:
    """' (closest: height)' of 'hieght', '' where nothing is near."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (closest: {found[0]})" if found else ""


def _is_tree(value: Any) -> bool:
    return isinstance(value, ml_collections.ConfigDict | Mapping)


def _fits(value: Any, known: Any) -> bool:
    """Whether a value may stand where ``known`` does: the same type, or a float given as int."""
    if isinstance(known, bool) or isinstance(value, bool):
        return isinstance(known, bool) and isinstance(value, bool)
    if isinstance(known, float):
        return isinstance(value, int | float)
    if isinstance(known, tuple | list):
        return isinstance(value, tuple | list)
    return isinstance(value, type(known))


def faults(
    given: Mapping, known: Mapping, prefix: str = "", free: Collection[str] = ()
) -> list[str]:
    """What is wrong with the names and types of ``given``; ``known`` holds every field.

    Fields may be missing, at any depth. free: fields of ``known``, at any depth, whose content is
    not looked at, because its names are the user's own; who reads their entries checks them.
    """
    wrong = []
    for name in given:
        if name not in known:
            wrong.append(f"unknown field {prefix}{name}{closest(name, known)}")
        elif name in free:
            continue
        elif _is_tree(known[name]) and _is_tree(given[name]):
            wrong += faults(given[name], known[name], f"{prefix}{name}.", free)
        elif _is_tree(known[name]) or not _fits(given[name], known[name]):
            wanted = type(known[name]).__name__
            wrong.append(f"{prefix}{name} must be of type {wanted}, got {given[name]!r}")
    return wrong


def missing(given: Mapping, known: Mapping, prefix: str = "", free: Collection[str] = ()) -> list:
    """Fields of ``known`` that ``given`` lacks, at any depth."""
    wrong = [f"missing field {prefix}{name}" for name in known if name not in given]
    for name in known:
        if name in given and name not in free and _is_tree(known[name]) and _is_tree(given[name]):
            wrong += missing(given[name], known[name], f"{prefix}{name}.", free)
    return wrong


def refuse(wrong: list[str], source: str) -> None:
    """ValueError with everything that is wrong, if anything is; ``source`` holds the fields."""
    if wrong:
        raise ValueError(f"the config does not fit {source}: {'; '.join(wrong)}")
