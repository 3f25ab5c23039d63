"""Names of files: in which order they come, when two are the same, and how they are shown.

A file system holds bytes. Names that are no UTF-8 reach Python with surrogates, composed and
decomposed letters (NFC, NFD) are different bytes, and camera files of Windows have backslashes.
Others ignore case, or refuse letters: a disk that is carried about (exFAT, NTFS) does both.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence

# What exFAT, NTFS and FAT refuse in names, and names that Windows keeps for devices.
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def natural_key(name: str | os.PathLike) -> tuple:
    """Sorts numbers inside names by value: 2 before 10; what is equal then, by its bytes."""
    text = os.fspath(name)
    parts = re.split(r"(\d+)", text.lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], text


def path_parts(path: str | os.PathLike) -> list[str]:
    """Folders and file name, composed (NFC), whichever system's separators the path has."""
    text = unicodedata.normalize("NFC", os.fspath(path))
    return [part for part in re.split(r"[\\/]+", text) if part not in ("", ".")]


def without_ending(name: str) -> str:
    """`a.b.jpg` is `a.b`; `.hidden` stays, as for `PurePath.stem`."""
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def distinct(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Printable names; with their folder's (where one is known), then a number, where they repeat.

    `cameras.matching` finds photographs by these names as well as by their own.
    """
    told = [printable(name) for name in names]
    if len(set(told)) < len(told):
        told = [
            f"{printable(folder)}_{name}".lstrip("_")
            for folder, name in zip(folders, told, strict=True)
        ]
    if len(set(told)) < len(told):
        told = [numbered(i, name) for i, name in enumerate(told)]
    return told


def numbered(place: int, name: str) -> str:
    """The name with its place in the list before it, which makes any names distinct."""
    return f"{place:04d}_{name}"


def portable(name: str) -> str:
    """The name as every file system takes it: "_" for white space and what some of them refuse."""
    name = _REFUSED.sub("_", "_".join(name.split())).rstrip(".")
    return f"_{name}" if not name or _DEVICES.match(name) else name


def are_distinct_files(names: Sequence[str]) -> bool:
    """Whether no two names are one where neither case nor the composition of letters counts."""
    return len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)


def printable(name: str) -> str:
    """The name as text that every file and terminal can hold.

    Bytes that are no UTF-8 are taken for Latin-1, as old archives have them; control characters
    become underscores.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        try:
            name = os.fsencode(name).decode("latin-1")
        except UnicodeEncodeError:
            name = re.sub("[\ud800-\udfff]", "_", name)
    return "".join("_" if unicodedata.category(letter) == "Cc" else letter for letter in name)
