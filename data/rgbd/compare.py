"""Whether a choice of trajectories is the one that would be made now: rule, scenes, raw files."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.rgbd.choice import Choice, Task
from data.stored.made_from import RECORD

# Files of which a layout's scenes consist. None reads .webp, .tif or .bmp; without them, choices of
# folders that hold such files would no longer be recognized.
_RAW_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".txt", ".bin"}
# Poses and intrinsics: other numbers may have the same width, so these are read.
_CAMERA_SUFFIXES = {".txt", ".bin"}
# COLMAP's points are large, and no layout reads them.
_UNREAD = {"points3d"}


def differences(choice: Choice, tasks: Sequence[Task]) -> list[str]:
    """In what a choice is another than these tasks would give, one phrase each."""
    first = tasks[0]
    told = {"layout": (choice.layout, first.layout), "seed": (choice.seed, first.seed)}
    ours, theirs = dataclasses.asdict(choice.rule), dataclasses.asdict(first.rule)
    told |= {name: (ours[name], theirs[name]) for name in ours}
    found = [f"{name} {old} -> {new}" for name, (old, new) in told.items() if old != new]
    wanted = {f"{task.split}/{task.name}": task for task in tasks}
    found += [f"without {name}" for name in choice.sources if name not in wanted]
    for name, task in wanted.items():
        begin, end, files = choice.sources.get(name, (None, None, ""))
        if begin is None:
            found.append(f"with {name}")
        elif (begin, end) != (task.begin, task.end):
            found.append(f"another part of {name}")
        elif not _same(files, fingerprint(task.path)):
            found.append(f"other files in {name}")
    return found


def _same(told: str, now: str) -> bool:
    """Choices of earlier versions tell the listing only: of their cameras nothing is known."""
    return told in (now, now.partition("-")[0])


def fingerprint(scene: Path) -> str:
    """What tells a scene's raw files from others, ``LISTING-CAMERAS``.

    That is, check sums of the names and sizes of all, and of the contents of poses and intrinsics.
    """
    listing = cameras = zlib.crc32(b"")
    for path in _raw_files(scene):
        told = f"{path.relative_to(scene)} {path.stat().st_size}"
        listing = zlib.crc32(os.fsencode(told), listing)
        if path.suffix.lower() in _CAMERA_SUFFIXES and path.stem.lower() not in _UNREAD:
            cameras = zlib.crc32(path.read_bytes(), cameras)
    return f"{listing:08x}-{cameras:08x}"


def _raw_files(scene: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(scene):
        # Data sets that were written below the scene are no part of it.
        below[:] = sorted(name for name in below if not Path(folder, name, RECORD).is_file())
        for path in (Path(folder, name) for name in sorted(files)):
            # A link that leads nowhere is a missing file.
            if path.suffix.lower() in _RAW_SUFFIXES and path.is_file():
                yield path
