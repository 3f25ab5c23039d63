"""Estimates of memory against what runs took, and the limits they are held against."""

import json
from pathlib import Path

import pytest

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.reconstruction import memory
from tests.reconstruction.perfect_network import CONFIG


def test_estimates_grow_with_everything():
    """More views, paths or pixels never need less."""
    base = memory.estimate(CONFIG, 4, 2, 32, 32)
    for other in [(8, 2, 32, 32), (4, 4, 32, 32), (4, 2, 64, 32)]:
        more = memory.estimate(CONFIG, *other)
        assert more.bytes >= base.bytes and more.flops > base.flops


def test_the_largest_number_of_views_fits():
    """It fits the limit exactly: one more does not."""
    limit = 700 << 20
    views = memory.largest_view_count(CONFIG, 4, 64, 64, limit)
    assert views > 2
    assert memory.estimate(CONFIG, views, 4, 64, 64).bytes <= limit
    assert memory.estimate(CONFIG, views + 1, 4, 64, 64).bytes > limit
    with pytest.raises(memory.MemoryLimitError, match=f"at most {views} views fit"):
        memory.check(CONFIG, 100 * views, 4, 64, 64, limit)


def test_estimates_are_what_was_measured():
    """Within a fifth of the peak memory of whole runs."""
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "many_views.json"
    rows = json.loads(path.read_text())["results"]
    assert max(row["V"] for row in rows) >= 24
    for row in rows:
        size = map(int, row["size"].split("x"))
        needed = memory.estimate(VARIANTS[row["weights"]], row["V"], row["R"], *size)
        assert 0.8 < needed.bytes / 2**30 / row["peak GiB"] < 1.25, row


def test_loaded_weights_are_not_counted_twice(monkeypatch):
    """What is free after loading needs to hold only the rest."""
    config = VARIANTS["mvdp"]
    needed = memory.estimate(config, 4, 4, 224, 224).bytes
    held = 4 * memory.parameter_count(config)
    assert held > needed / 3
    for spare, fits in ((0, True), (-1, False)):
        monkeypatch.setattr(memory, "free_bytes", lambda free=needed - held + spare: free)
        if fits:
            memory.check(config, 4, 4, 224, 224)
        else:
            with pytest.raises(memory.MemoryLimitError, match="can be used"):
                memory.check(config, 4, 4, 224, 224)
