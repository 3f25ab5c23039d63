"""What of this machine the process may use: cores, and memory within its control groups.

Containers and batch systems (Docker, Kubernetes, SLURM) limit both with Linux's control groups;
whoever counts on the whole machine is slow there, or is killed. Both versions of the interface are
read, in every group from the process's own up to the root, since each may have a limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# Files of a memory group, by version: its limit, its use, and its use in parts, of which the named
# one is of files that were read lately, which are given up when memory is short.
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
    2: ("memory.max", "memory.current", "memory.stat", "inactive_file"),
}


def cores() -> int:
    """Cores that the process's threads may run on, as SLURM, `taskset` and ``--cpuset-cpus`` set.

    XLA's thread pool is as large. Shares of time (Docker's ``--cpus``) do not count.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that the process can still take: of the machine's, and within each limit set on it."""
    return min([psutil.virtual_memory().available, *_left_by_groups()])


def _left_by_groups() -> Iterator[int]:
    for version, folder in _memory_groups():
        limit, used, parts, given_up = _MEMORY_FILES[version]
        try:
            # "max" is no limit in version 2; in version 1 that is a number beyond any memory.
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            fields = dict(line.split() for line in (folder / parts).read_text().splitlines())
            yield max(0, left + int(fields.get(given_up, 0)))
        except (OSError, ValueError):
            continue


def _memory_groups() -> Iterator[tuple[int, Path]]:
    """Version and folder of each control group that counts this process's memory.

    A container may be told its group as the machine calls it, and see that group as its root:
    folders that are not there are passed over by whoever reads them.
    """
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            version, root = 2, _GROUPS
        elif "memory" in controllers.split(","):
            version, root = 1, _GROUPS / "memory"
        else:
            continue
        own = PurePosixPath(path.removeprefix("/"))
        if ".." not in own.parts:
            yield from ((version, root / group) for group in (own, *own.parents))
        else:
            yield version, root
