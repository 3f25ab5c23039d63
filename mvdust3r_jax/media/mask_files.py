"""Which mask of a folder is a photograph's: same name, in the folder that both paths end with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mvdust3r_jax.media.kinds import SUFFIXES, ImageError
from mvdust3r_jax.media.names import natural_key, path_parts, printable, without_ending

_DYNAMIC = "dynamic_mask_"
# Mask files by the folders between the masks' folder and them.
_Table = dict[tuple[str, ...], list[Path]]


def masks_of(folder: str | os.PathLike, photographs: Sequence[str]) -> list[Path]:
    """One mask per photograph (given as paths), from the folder or folders below it.

    ``left/1.png`` is the mask of ``any/left/1.jpg``; endings do not count (but ``1.jpg.png`` goes
    before ``1.png``), composed and decomposed letters are the same. Without one of that name
    ``1_mask.png``, ``1.mask.png`` and ``dynamic_mask_1.png`` are as good.

    Raises:
      ImageError: no such folder, no mask, several, or one for two different photographs.
    """
    table = _listed(Path(folder))
    masks = [_mask_of(Path(folder), table, path) for path in photographs]
    owners: dict[Path, str] = {}
    for mask, path in zip(masks, photographs, strict=True):
        if owners.setdefault(mask, path) != path:
            raise ImageError(f"{mask} is the mask of both {owners[mask]} and {path}")
    return masks


def _listed(folder: Path) -> _Table:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise ImageError(f"the folder of masks, {folder}, is {kind}")
    table: _Table = {}
    for path in sorted(folder.rglob("*"), key=natural_key):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            between = tuple(_parts(path.relative_to(folder))[:-1])
            table.setdefault(between, []).append(path)
    return table


def _parts(path: str | os.PathLike) -> list[str]:
    return path_parts(printable(os.fspath(path)))


def _mask_of(folder: Path, table: _Table, photograph: str) -> Path:
    """The mask that shares the longest end of the photograph's path, whatever its ending."""
    *folders, name = _parts(photograph)
    for depth in range(len(folders) + 1):
        images = table.get(tuple(folders[depth:]), [])
        called = [(path, _parts(path)[-1]) for path in images]
        found = [path for path, own in called if name in (own, without_ending(own))]
        stem = without_ending(name)
        found = found or [path for path, own in called if without_ending(own) == stem]
        marked = {text for x in (name, stem) for text in (f"{x}_mask", f"{x}.mask", _DYNAMIC + x)}
        found = found or [path for path, own in called if without_ending(own) in marked]
        if len(found) > 1:
            raise ImageError(f"the mask of {name} may be {found[0]} or {found[1]}")
        if found:
            return found[0]
    raise ImageError(f"there is no mask for {name} in {folder}")
