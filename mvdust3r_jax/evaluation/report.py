"""Records of an evaluation: one JSON line per scene, summaries with intervals, the Markdown table.

A record says ``dataset, views, method, id`` and numbers; NaN is written as null (the number has no
value for this scene) and infinities as strings. Records carry no times, so that a repeated run
writes the same file; times stand in a file of their own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.evaluation import tables

Record = dict[str, Any]
KEYS = ("dataset", "views", "method", "id")
# Columns of the table: number, heading, factor, digits. The suffix _release is the published one.
COLUMNS = (
    ("nd", "ND", 1, 3),
    ("dac0.2", "DAc@0.2 %", 100, 1),
    ("cd", "CD", 1, 4),
    ("rre_deg", "RRE deg", 1, 2),
    ("rte_deg", "RTE deg", 1, 2),
    ("rra15", "RRA@15 %", 100, 1),
    ("rta15", "RTA@15 %", 100, 1),
    ("maa30", "mAA@30 %", 100, 1),
    ("psnr_db", "PSNR dB", 1, 2),
    ("ssim", "SSIM", 1, 3),
    ("lpips", "LPIPS", 1, 3),
)
_BOOTSTRAP_SEED = 0


def encode(value: float) -> float | str | None:
    """A number as JSON can hold it."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def decode(value: float | str | None) -> float:
    """Inverse of `encode`."""
    return float("nan") if value is None else float(value)


def append(path: Path, records: Iterable[Record]) -> None:
    """Adds complete lines, flushed to the disk, so that a killed run loses at most one batch."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """All complete records; a last line cut off by a kill is removed from the file."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.decode("utf-8").splitlines()]


def peek(path: Path) -> list[Record]:
    """All complete records of a file that another process may be writing; it is left alone."""
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.decode("utf-8").splitlines()]


def interval(
    values: Float[np.ndarray, "n"], resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean and its bootstrapped percentile interval (scenes drawn with replacement, fixed seed)."""
    if len(values) == 0:
        return (float("nan"),) * 3
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    drawn = rng.integers(0, len(values), (resamples, len(values)))
    means = values[drawn].mean(axis=1)
    # Order statistics, not interpolation: an infinite value must not become NaN.
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(values.mean()), float(low), float(high)


def _statistics(records: list[Record]) -> dict[str, dict[str, Any]]:
    names = sorted({name for record in records for name in record} - set(KEYS))
    result = {}
    for name in names:
        values = np.array([decode(record.get(name)) for record in records])
        defined = values[~np.isnan(values)]
        mean, low, high = interval(defined)
        result[name] = {
            "mean": encode(mean),
            "low": encode(low),
            "high": encode(high),
            "median": encode(float(np.median(defined))) if len(defined) else None,
            "scenes": len(defined),
            "without_value": len(values) - len(defined),
        }
    return result


def _times(times: list[Record]) -> dict[str, float]:
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


def summarize(records: list[Record], times: list[Record]) -> list[Record]:
    """One row per dataset, number of views and method, in order of first appearance.

    Scenes are taken in the order of their ids, so that it does not matter which process did which.
    """
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[k] for k in KEYS[:3]), []).append(record)
    groups = {
        group: sorted(members, key=lambda record: str(record["id"]))
        for group, members in groups.items()
    }
    by_group: dict[tuple, list[Record]] = {}
    for record in times:
        by_group.setdefault(tuple(record[k] for k in KEYS[:3]), []).append(record)
    return [
        dict(zip(KEYS[:3], group, strict=True))
        | {
            "scenes": len(members),
            "empty_scenes": sum(record.get("nd") is None for record in members),
            "numbers": _statistics(members),
            "times": _times(by_group.get(group, [])),
        }
        for group, members in groups.items()
    ]


def _cell(row: Record, name: str, factor: float, digits: int) -> str:
    statistic = row["numbers"].get(name)
    if statistic is None or statistic["mean"] is None:
        return "-"
    mean, low, high = (factor * decode(statistic[k]) for k in ("mean", "low", "high"))
    half = 0.5 * (high - low)
    return f"{mean:.{digits}f}" + (f" ±{half:.{digits}f}" if math.isfinite(half) else "")


def table(summary: list[Record], suffix: str = "") -> str:
    """Markdown: a row per method and number of views; ± is half the width of the 95 % interval.

    ``suffix="_release"`` takes the published definition of a number wherever there is one.
    """
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in summary):
        rows = [row for row in summary if row["dataset"] == dataset]
        used = [c for c in COLUMNS if any(c[0] in row["numbers"] for row in rows)]
        head = ["method", "views", "scenes", *(c[1] for c in used)]
        head += ["network s", "pose s", "align s"]
        lines += [f"**{dataset}**", "", tables.head(head)]
        for row in rows:
            cells = [row["method"], str(row["views"]), str(row["scenes"])]
            for name, _, factor, digits in used:
                published = name + suffix
                chosen = published if published in row["numbers"] else name
                cells.append(_cell(row, chosen, factor, digits))
            for stage in ("network", "pose", "alignment"):
                seconds = row["times"].get(f"{stage}_s")
                cells.append("-" if seconds is None else f"{seconds:.3g}")
            lines.append(tables.row(cells))
        lines.append("")
    return "\n".join(lines)
