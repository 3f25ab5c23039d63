"""Records to statistics: means with bootstrapped intervals, and paired differences of methods.

Intervals are over rooms, drawn with replacement with all their trajectories (2000 resamples, fixed
seed, 95 %, percentiles): walks through one room overlap and say little more than one of them.
Methods that share scenes are also compared scene by scene with the best of them, which takes the
scenes' own difficulty out of the interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.evaluation.records import KEYS, Record, decode, encode
from mvdust3r_jax.evaluation.rooms import room_of_scan

_BOOTSTRAP_SEED = 0
# The number by which the best method is found.
_JUDGED_BY = "nd"


def interval(
    values: Float[np.ndarray, " n"],
    rooms: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Mean and its bootstrapped percentile interval; one room has no interval (NaN).

    rooms: of each value; by default every value has its own.
    """
    if len(values) == 0:
        return (float("nan"),) * 3
    names, room = np.unique(rooms, return_inverse=True) if rooms else (values, None)
    if len(names) == 1:
        return float(values.mean()), float("nan"), float("nan")
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    drawn = rng.integers(0, len(names), (resamples, len(names)))
    if room is None:
        means = values[drawn].mean(axis=1)
    else:
        sums, counts = np.bincount(room, values), np.bincount(room)
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    # Order statistics, not interpolation: an infinite value must not become NaN.
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(values.mean()), float(low), float(high)


def _names(records: Sequence[Record]) -> list[str]:
    return sorted({name for record in records for name in record} - set(KEYS))


def _values(records: Sequence[Record], name: str) -> Float[np.ndarray, " n"]:
    return np.array([decode(record.get(name)) for record in records])


def room_of(record: Record) -> str:
    """The room of a trajectory: ids are ``SCAN/NUMBER``, or the number of a generated room."""
    name = str(record["id"])
    return room_of_scan(name.rpartition("/")[0]) or name


def _with_interval(values: Float[np.ndarray, " n"], rooms: Sequence[str]) -> dict[str, Any]:
    """Mean, ends of its interval, numbers of trajectories and rooms, as JSON can hold them."""
    mean, low, high = (encode(x) for x in interval(values, rooms))
    counts = {"scenes": len(values), "rooms": len(set(rooms))}
    return {"mean": mean, "low": low, "high": high, **counts}


def _statistics(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    result = {}
    for name in _names(records):
        values = _values(records, name)
        known = ~np.isnan(values)
        defined, rooms = values[known], list(itertools.compress(map(room_of, records), known))
        result[name] = _with_interval(defined, rooms) | {
            "median": encode(float(np.median(defined))) if len(defined) else None,
            "without_value": len(values) - len(defined),
        }
    return result


def _differences(ours: Sequence[Record], theirs: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Ours minus theirs, scene by scene, of every number that both have in some scene."""
    by_id = {record["id"]: record for record in theirs}
    pairs = [(record, by_id[record["id"]]) for record in ours if record["id"] in by_id]
    if not pairs:
        return {}
    ours, theirs = zip(*pairs, strict=True)
    result = {}
    for name in set(_names(ours)) & set(_names(theirs)):
        with np.errstate(invalid="ignore"):
            difference = _values(ours, name) - _values(theirs, name)
        # Of two infinite values the difference is unknown, as where one has none.
        known = ~np.isnan(difference)
        if known.any():
            rooms = list(itertools.compress(map(room_of, ours), known))
            result[name] = _with_interval(difference[known], rooms)
    return dict(sorted(result.items()))


def _times(times: Sequence[Record]) -> dict[str, float]:
    """Median seconds of each stage per scene without warm-up, and compilations in total."""
    warmed = [record for record in times if not record.get("warm_up")] or times
    stages: dict[str, list[float]] = {}
    compile_s: dict[str, float] = {}
    for record in warmed:
        for stage, seconds in record["seconds"].items():
            stages.setdefault(stage, []).append(seconds)
    for record in times:
        for stage, seconds in record["compile_s"].items():
            compile_s[stage] = compile_s.get(stage, 0.0) + seconds
    medians = {f"{stage}_s": float(np.median(values)) for stage, values in stages.items()}
    return medians | {f"{stage}_compile_s": seconds for stage, seconds in compile_s.items()}


def _missing(members: Sequence[Record], planned: Sequence[str]) -> dict[str, Any]:
    """How many trajectories have no record, and which."""
    found = {record["id"] for record in members}
    lacking = [name for name in planned if name not in found]
    return {"missing": len(lacking), "missing_ids": lacking}


def _grouped(records: Sequence[Record]) -> dict[tuple, list[Record]]:
    """By data set, views and method, in order of first appearance; scenes ordered by their ids.

    So it does not matter which process did which scene.
    """
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[k] for k in KEYS[:3]), []).append(record)
    for members in groups.values():
        members.sort(key=lambda record: str(record.get("id")))
    return groups


def _best(groups: Mapping[tuple, list[Record]], knowing: Collection[str]) -> dict[tuple, str]:
    """(data set, views) -> the method of smallest mean ND of those that do not know the truth."""
    found: dict[tuple, tuple[float, str]] = {}
    for (*where, method), members in groups.items():
        values = _values(members, _JUDGED_BY)
        if method in knowing or np.isnan(values).all():
            continue
        candidate = float(np.nanmean(values)), method
        found[tuple(where)] = min(found.get(tuple(where), candidate), candidate)
    return {where: method for where, (_, method) in found.items()}


def summarize(
    records: Sequence[Record],
    times: Sequence[Record],
    knowing: Collection[str] = (),
    planned: Mapping[tuple, Sequence[str]] | None = None,
) -> list[Record]:
    """One row per data set, number of views and method, in order of first appearance.

    knowing: methods that know the truth. Every other method but the best has ``against``: the best
    one's name, and its own numbers minus the best one's over the scenes that both have. planned:
    ids by data set, views and method; each of these has a row, with the ids that have no record.
    """
    planned = planned or {}
    groups, by_group = _grouped(records), _grouped(times)
    groups |= {group: [] for group in planned if group not in groups}
    best = _best(groups, knowing)
    rows = []
    for group, members in groups.items():
        *where, method = group
        row = dict(zip(KEYS[:3], group, strict=True)) | {
            "scenes": len(members),
            "empty_scenes": sum(record.get("nd") is None for record in members),
            "numbers": _statistics(members),
            "times": _times(by_group.get(group, [])),
        }
        if group in planned:
            row |= _missing(members, planned[group])
        other = best.get(tuple(where))
        if other not in (None, method) and method not in knowing:
            differences = _differences(members, groups[(*where, other)])
            row["against"] = {"method": other, "numbers": differences}
        rows.append(row)
    return rows
