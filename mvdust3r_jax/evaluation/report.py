"""Tables of a summary: Markdown with the usual and with the published definitions, and CSV.

A row for each method and number of views; ± is half the width of the 95 % interval over rooms.
What has no record is told in a line below the table; below that the methods are compared scene by
scene with the best of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.records import Record, decode
from mvdust3r_jax.storage.atomic import whole_file

RELEASE = "_release"


class Column(NamedTuple):
    """A number of the tables: its name in the records, its heading with unit, how it is shown.

    factor: from the record's unit to the heading's. compared: also in the table of differences.
    """

    name: str
    heading: str
    factor: float = 1
    digits: int = 3
    compared: bool = False


COLUMNS = (
    Column("nd", "ND m", compared=True),
    Column("dac0.2", "DAc@0.2m %", 100, 1, compared=True),
    Column("cd", "CD m²", 1, 4, compared=True),
    Column("rre_deg", "RRE deg", 1, 2),
    Column("rte_deg", "RTE deg", 1, 2),
    Column("rra15", "RRA@15° %", 100, 1, compared=True),
    Column("rta15", "RTA@15° %", 100, 1, compared=True),
    Column("maa30", "mAA@30° %", 100, 1),
    Column("psnr_db", "PSNR dB", 1, 2, compared=True),
    Column("ssim", "SSIM", 1, 3),
    Column("lpips", "LPIPS", 1, 3, compared=True),
)
STAGES = ("network", "pose", "alignment")

_TITLE = {
    "": "# Evaluation, usual definitions\n\nThe numbers as they are usually defined; for those of "
    "the published evaluation see `table_release.md`.\n",
    RELEASE: "# Evaluation, published definitions\n\nColumns marked (published) are computed as "
    "the published evaluation computes them; only these compare with published tables. For the "
    "usual definitions see `table.md`.\n",
}
_INCOMPLETE = "Incomplete, trajectories without a record: {counts} (`summary.json` names them)."
_DIFFERENCES = "{dataset}, differences to the best method on the same scenes, [95 % interval]:"


def _chosen(column: Column, rows: Sequence[Record], suffix: str) -> Column:
    """The column, or its published counterpart where there is one and it is asked for."""
    published = column.name + suffix
    if not suffix or not any(published in row["numbers"] for row in rows):
        return column
    return column._replace(name=published, heading=f"{column.heading} (published)")


def _columns(rows: Sequence[Record], suffix: str) -> list[Column]:
    """Those that some row has."""
    used = [c for c in COLUMNS if any(c.name in row["numbers"] for row in rows)]
    return [_chosen(c, rows, suffix) for c in used]


def _scaled(statistic: Mapping[str, Any] | None, column: Column) -> tuple[float, float, float]:
    """Mean and ends of its interval in the heading's unit, NaN where there is none."""
    statistic = statistic or {}
    mean, low, high = (column.factor * decode(statistic.get(k)) for k in ("mean", "low", "high"))
    return mean, low, high


def _cell(row: Record, column: Column) -> str:
    mean, low, high = _scaled(row["numbers"].get(column.name), column)
    if math.isnan(mean):
        return "-"
    half = 0.5 * (high - low)
    # Summaries made before one scene had no interval say low = high there.
    known = math.isfinite(half) and row["numbers"][column.name].get("scenes") != 1
    return f"{mean:.{column.digits}f}" + (f" ±{half:.{column.digits}f}" if known else "")


def _difference(row: Record, column: Column) -> str:
    mean, low, high = _scaled(row["against"]["numbers"].get(column.name), column)
    if math.isnan(low):
        return "-"
    mean, low, high = (f"{x:+.{column.digits}f}" for x in (mean, low, high))
    return f"{mean} [{low}, {high}]"


def main_table(
    rows: Sequence[Record], suffix: str, labels: Mapping[str, str], skipped: Mapping[str, str]
) -> str:
    """One data set's methods; the skipped ones say why."""
    used = _columns(rows, suffix)
    head = ["method", "views", "scenes", *(c.heading for c in used)]
    head += ["network s", "pose s", "align s"]
    cells = []
    for row in rows:
        method = labels.get(row["method"], row["method"])
        times = (row["times"].get(f"{stage}_s") for stage in STAGES)
        cells.append(
            [method, row["views"], row["scenes"]]
            + [_cell(row, column) for column in used]
            + ["-" if seconds is None else f"{seconds:.3g}" for seconds in times]
        )
    for method, why in skipped.items():
        cells.append([f"{method} (skipped: {why})", *["-"] * (len(head) - 1)])
    return tables.table(head, cells)


def incomplete(rows: Sequence[Record], labels: Mapping[str, str]) -> str:
    """One line: how many trajectories each method lacks, '' if none lacks any."""
    counts: dict[str, list[str]] = {}
    for row in rows:
        if row.get("missing"):
            method = labels.get(row["method"], row["method"])
            counts.setdefault(f"{row['missing']} at {row['views']} views", []).append(method)
    told = [f"{count} of {', '.join(methods)}" for count, methods in counts.items()]
    return _INCOMPLETE.format(counts="; ".join(told)) if told else ""


def difference_table(rows: Sequence[Record], suffix: str, labels: Mapping[str, str]) -> str:
    """Every method minus the best one, over the scenes that both have; '' if none has any."""
    rows = [row for row in rows if row.get("against", {}).get("numbers")]
    used = [c for c in _columns(rows, suffix) if c.compared]
    cells = [
        [labels.get(row["method"], row["method"]), row["views"], row["against"]["method"]]
        + [_difference(row, column) for column in used]
        for row in rows
    ]
    cells = [row for row in cells if set(row[3:]) != {"-"}]
    if not cells:
        return ""
    return tables.table(["method", "views", "minus", *(c.heading for c in used)], cells)


def table(
    summary: Sequence[Record],
    suffix: str = "",
    labels: Mapping[str, str] | None = None,
    skipped: Mapping[str, str] | None = None,
) -> str:
    """Markdown: every data set's table, and below it that of the differences, where there are any.

    Args:
      summary: of `summary.summarize`.
      suffix: ``RELEASE`` takes the published definition of a number wherever there is one.
      labels: names of methods that are shown instead of their own.
      skipped: methods that were not run, and why.
    """
    labels, lines = labels or {}, []
    for dataset in dict.fromkeys(row["dataset"] for row in summary):
        rows = [row for row in summary if row["dataset"] == dataset]
        lines += [f"**{dataset}**", "", main_table(rows, suffix, labels, skipped or {}), ""]
        if lacking := incomplete(rows, labels):
            lines += [lacking, ""]
        if differences := difference_table(rows, suffix, labels):
            lines += [_DIFFERENCES.format(dataset=dataset), "", differences, ""]
    return "\n".join(lines)


def as_csv(summary: Sequence[Record], labels: Mapping[str, str]) -> str:
    """Both definitions of every column, unrounded, with the ends of the intervals; times in s."""
    columns = _columns(summary, "")
    columns += [c for c in _columns(summary, RELEASE) if c.name.endswith(RELEASE)]
    head = ["dataset", "method", "views", "scenes"]
    head += [f"{c.heading}{end}" for c in columns for end in ("", " low", " high")]
    head += [f"{stage} s" for stage in STAGES]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in summary:
        cells = [row["dataset"], labels.get(row["method"], row["method"])]
        cells += [row["views"], row["scenes"]]
        for column in columns:
            found = _scaled(row["numbers"].get(column.name), column)
            cells += ["" if math.isnan(x) else x for x in found]
        cells += [row["times"].get(f"{stage}_s", "") for stage in STAGES]
        writer.writerow(cells)
    return text.getvalue()


def write_tables(
    workdir: Path, summary: Sequence[Record], labels: Mapping[str, str], skipped: Mapping[str, str]
) -> str:
    """``table.md``, ``table_release.md`` and ``table.csv``; returns the first one's text."""
    texts = {"table.csv": as_csv(summary, labels)}
    for suffix, title in _TITLE.items():
        texts[f"table{suffix}.md"] = f"{title}\n{table(summary, suffix, labels, skipped)}"
    for name, text in texts.items():
        with whole_file(workdir / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return texts["table.md"]
