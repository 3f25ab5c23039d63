"""Whether a choice of trajectories is the one that would be made now: rule, scenes, raw files."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from data.rgbd.choice import Choice, Task
from data.stored.builder import RECORD

# Files of which a layout's scenes consist.
_RAW_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".txt", ".bin"}


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
        elif files != fingerprint(task.path):
            found.append(f"other files in {name}")
    return found


def fingerprint(scene: Path) -> str:
    """What tells a scene's folder from another: names and sizes of its raw files."""
    total = zlib.crc32(b"")
    for folder, below, files in os.walk(scene):
        # Data sets that were written below the scene are no part of it.
        below[:] = sorted(name for name in below if not Path(folder, name, RECORD).is_file())
        for name in sorted(files):
            if Path(name).suffix.lower() in _RAW_SUFFIXES:
                path = Path(folder, name)
                told = f"{path.relative_to(scene)} {path.stat().st_size}"
                total = zlib.crc32(os.fsencode(told), total)
    return f"{total:08x}"
