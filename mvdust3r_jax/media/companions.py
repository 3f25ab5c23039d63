"""Depth maps, normals and masks that lie beside the photographs they belong to, by their names.

Capture programs, renderers and data sets write them into one folder. They are found by the name of
a photograph that is there as well: ``0.depth.png`` beside ``0.png``, ``frame.depth.png`` beside
``frame.color.png``, ``r_0_normal_0001.png`` beside ``r_0.png``, ``dynamic_mask_0.png``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mvdust3r_jax.media.names import without_ending

# What follows the photograph's name, or precedes it. After the word may come a number or another
# part, but no letter.
_PATTERNS = (
    re.compile(r"(?P<name>.+)[._](depth(maps?|s)?|normals?)(?![a-z]).*", re.DOTALL),
    re.compile(r"(?P<name>.+)[._]mask", re.DOTALL),
    re.compile(r"dynamic_mask_(?P<name>.+)", re.DOTALL),
)
# What a photograph may have in its own name where its depth has the word.
_OWN = ("", ".color", "_color", ".rgb", "_rgb")


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(photographs, what belongs to one of them) of the picture files of one folder, in order."""
    names = {name for path in paths for name in (_key(path.name), _key(without_ending(path.name)))}
    belongs = [_belongs(path, names) for path in paths]
    pairs = list(zip(paths, belongs, strict=True))
    return [path for path, yes in pairs if not yes], [path for path, yes in pairs if yes]


def _key(name: str) -> str:
    return name.lower()


def _belongs(path: Path, names: set[str]) -> bool:
    stem = _key(without_ending(path.name))
    found = [match["name"] for pattern in _PATTERNS if (match := pattern.fullmatch(stem))]
    return any(name + own in names for name in found for own in _OWN)
