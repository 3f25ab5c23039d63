"""Ranges of the fields that become no object of their own, each told in one line.

What does become one (network, optimizer, objective, step) checks itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Seeds are below: of larger ones random keys have the lower half alone, that of another seed.
SEEDS = 2**32
# A reference and a view of its scene from elsewhere.
LEAST_VIEWS = 2
# Field -> least value. Steps of which 0 means never, or sizes.
LEAST = {
    "max_skipped_in_row": 1,
    "log_every": 0,
    "pictures_every": 0,
    "eval_every": 0,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
    "milestone_every": 0,
    "save_minutes": 1,
    "stall_minutes": 0,
    "slices": 1,
}
# The same below ``data``, and in each set of ``eval``.
DATA_LEAST = {
    "batch_size": 1,
    "images_per_step": 0,
    "num_targets": 0,
    "height": 1,
    "width": 1,
    "prefetch": 1,
    "threads": 0,
    "read_ahead": 0,
    "reuse": 1,
    "recolor": 0,
    "photographic": 0,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_least(values: Mapping[str, Any], least: Mapping[str, int], prefix: str = "") -> None:
    for name, smallest in least.items():
        # NaN is at least nothing.
        if name in values and not smallest <= values[name] < math.inf:
            finite = "finite and " if isinstance(values[name], float) else ""
            raise ValueError(
                f"{prefix}{name} must be {finite}at least {smallest}, got {values[name]}"
            )


def _check_seed(seed: int, prefix: str = "") -> None:
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{prefix}seed must lie in 0..{SEEDS - 1}, got {seed}")


def check_steps(config: Mapping[str, Any]) -> None:
    """Seed, how often and how long; ValueError naming the first field that is out of range."""
    _check_seed(config["seed"])
    _check_least(config, LEAST)
    if config["eval_every"] and config["eval_batches"] < 1:
        raise ValueError(
            f"eval_batches must be at least 1, got {config['eval_batches']}; eval_every = 0 "
            "evaluates never"
        )


def check_mesh(mesh: Sequence[Any]) -> None:
    """ValueError unless it is (batch, views), of which batch may be 0."""
    if len(mesh) != 2 or not (_is_whole(mesh[0], 0) and _is_whole(mesh[1], 1)):
        raise ValueError(
            f"mesh must be (batch, views), at least 0 (all devices) and 1, got {tuple(mesh)}"
        )


def check_data(settings: Mapping[str, Any], place: str = "data") -> None:
    """Fields of ``data``, or of a set to evaluate on; place: its name in messages."""
    _check_seed(settings["seed"], f"{place}.")
    _check_least(settings, DATA_LEAST, f"{place}.")
    views = settings["num_inputs"]
    if not views or not all(_is_whole(count, LEAST_VIEWS) for count in views):
        raise ValueError(
            f"{place}.num_inputs must hold numbers of at least {LEAST_VIEWS} views, e.g. (8,), got "
            f"{tuple(views)}"
        )
    bounds = settings["baseline"]
    if len(bounds) != 2 or not all(map(_is_number, bounds)) or not 0 <= bounds[0] <= bounds[1]:
        raise ValueError(
            f"{place}.baseline must be (least, most), two numbers of at least 0 in this order, got "
            f"{tuple(bounds)}"
        )
    for entry in settings["mixture"]:
        if isinstance(entry, str) or len(entry) != 2 or not _is_number(entry[1]):
            raise ValueError(
                f"{place}.mixture must hold (folder, weight) pairs, e.g. "
                f"(('DATA/rgbd', 1.0),), got {entry!r}"
            )
