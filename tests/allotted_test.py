"""What control groups, as containers and batch systems make them, leave of the machine."""

import os

import psutil
import pytest

from mvdust3r_jax import allotted

NONE_1, NONE_2 = str(2**63 - 4096), "max"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes what `/proc/self/cgroup` says, and groups: folder -> (version, limit, use, cache)."""
    monkeypatch.setattr(allotted, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(allotted, "_OWN", tmp_path / "own")

    def write(own, folders):
        (tmp_path / "own").write_text(own)
        for name, (version, limit, used, cache) in folders.items():
            folder = tmp_path / "groups" / name
            folder.mkdir(parents=True, exist_ok=True)
            limit_file, used_file, parts_file, given_up = allotted._MEMORY_FILES[version]
            (folder / limit_file).write_text(f"{limit}\n")
            (folder / used_file).write_text(f"{used}\n")
            (folder / parts_file).write_text(f"anon 300\n{given_up} {cache}\nactive_file 100\n")

    return write


@pytest.mark.parametrize(
    "own, folders, left",
    [
        # A container with a root of its own; files that were read lately can be given up.
        ("0::/\n", {".": (2, 1000, 800, 400)}, 600),
        # SLURM: the job has the limit, the step below it has none.
        (
            "0::/system/job_7/step_0\n",
            {"system/job_7": (2, 1000, 100, 0), "system/job_7/step_0": (2, NONE_2, 100, 0)},
            900,
        ),
        ("0::/a/b\n", {"a": (2, 500, 100, 0), "a/b": (2, 1000, 100, 0)}, 400),
        # Version 1 has a hierarchy a controller, and may share the machine with version 2.
        (
            "5:cpuset:/x\n4:memory,hugetlb:/job\n0::/\n",
            {"memory/job": (1, 1000, 300, 50), "memory": (1, NONE_1, 10**6, 0)},
            750,
        ),
        # Docker with version 1: the group has the machine's name, and is seen as the root.
        ("4:memory:/docker/abc\n", {"memory": (1, 1000, 300, 0)}, 700),
        # A group above the container's root.
        ("0::/../other\n", {".": (2, 1000, 300, 0)}, 700),
        ("0::/\n", {".": (2, 1000, 1200, 0)}, 0),
    ],
)
def test_the_tightest_limit_counts(groups, own, folders, left):
    """Limit less use, of every group from the process's own up to the root."""
    groups(own, folders)
    assert allotted.free_memory() == left


@pytest.mark.parametrize("own", ["0::/\n", "4:memory:/a\n", "", "3:cpu:/x\n"])
def test_without_a_limit_the_machine_counts(groups, own):
    """And where there are no groups, or files cannot be understood."""
    groups(own, {".": (2, NONE_2, 100, 0), "memory/a": (1, "?", 100, 0)})
    assert abs(allotted.free_memory() - psutil.virtual_memory().available) < 1 << 30


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has it")
def test_cores_are_those_that_the_process_may_use():
    """As `taskset` and batch systems set them."""
    before = os.sched_getaffinity(0)
    assert allotted.cores() == len(before)
    try:
        os.sched_setaffinity(0, [min(before)])
        assert allotted.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
