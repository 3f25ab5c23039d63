"""Writes ``docs/speed.md`` from the results that the other benchmarks left behind.

    python -m benchmarks.speed_page

Numbers come from ``benchmarks/results``, but for those that stand here with their date: measure
again with the command above each table, then run this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import half_precision
from benchmarks.machine import measured_on, read_results
from benchmarks.start import PARTS
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.models.config import VARIANTS
from mvdust3r_jax.models.flops import across_views_flops, forward_flops

PAGE = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
GIB = 2**30
_FORWARD = (
    ("V", lambda r: r["views"]),
    ("type", lambda r: r["dtype"]),
    ("compile, s", lambda r: r["compile_s"]),
    ("cached, s", lambda r: r.get("cached_s")),
    ("pass, s", lambda r: r["s"]),
    ("processor time a core, s", lambda r: r["cpu_s"]),
    ("TFLOP", lambda r: r["flops"]["total"] / 1e12),
    ("computed", lambda r: r["computed_flops"] / 1e12),
    ("of the matmul rate, %", lambda r: 100 * r["share"]["s"]),
    ("by processor time, %", lambda r: 100 * r["share"]["cpu_s"]),
    ("peak GiB", lambda r: r["peak_bytes"] / GIB),
    *((name, lambda r, key=key: r["stages"].get(key, {}).get("s")) for name, key in (
        ("encoder, s", "encoder"), ("decoder, s", "decoder"), ("cross-reference, s", "cross_ref"),
        ("skip CNN, s", "skip_cnn"), ("pose, s", "pose"),
    )),
)  # fmt: skip
_COMMANDS = (
    ("V", lambda r: r["V"]),
    ("network, s", lambda r: r["network s"]),
    ("cameras, s", lambda r: r["cameras s"]),
    ("processor time of all cores, s", lambda r: r["all CPU s"]),
    ("peak GiB", lambda r: r["peak GiB"]),
    ("announced GiB", lambda r: r["estimate GiB"]),
)
_SERVING = (
    ("export, s", lambda r: r["export_s"]),
    *((f"{name}, s", lambda r, name=name: r["stages"][name]["s"]) for name in (
        "import", "load", "first result", "second result"
    )),
    ("beyond, s", lambda r: r["beyond_one_run_s"]),
    ("beyond, processor s", lambda r: r["beyond_one_run_cpu_s"]),
)  # fmt: skip
_SPLAT = (
    ("Gaussians", lambda r: r["gaussians"]),
    ("cameras", lambda r: r["cameras"]),
    ("pixels", lambda r: f"{r['size']}x{r['size']}"),
    ("intersections", lambda r: r["intersections"]),
    ("forward, processor s", lambda r: r["forward_cpu_s"]),
    ("and backward", lambda r: r["both_cpu_s"]),
    ("us an intersection", lambda r: 1e6 * r["both_cpu_s"] / r["intersections"]),
    ("peak GB", lambda r: r["both_peak_gb"]),
)
_ROOMS = (
    ("pixels", lambda r: f"{r['size']}x{r['size']}"),
    ("views a second", lambda r: r["views_per_s"]),
    ("processor ms a view", lambda r: r["cpu_ms_per_view"]),
)
_START = (
    ("what", lambda r: r["what"]),
    ("processor s", lambda r: r["cpu_s"]),
    ("imports of JAX", lambda r: r["cpu_s"] / read_results("start")["rows"][0]["cpu_s"]),
)
_START_PARTS = (
    ("run", lambda r: r["run"]),
    *((f"{part}, s", lambda r, part=part: r[part]) for part in PARTS),
)
_CHANGES = (
    ("change", lambda r: r["change"]),
    ("without it, s", lambda r: r["before"]["s"]),
    ("with it, s", lambda r: r["after"]["s"]),
    ("ratio of processor times", lambda r: r["ratio"]["cpu_s"]),
    ("why", lambda r: r["reason"]),
)


def cell(value: Any) -> str:
    """Text of a number to three digits; nothing where nothing was measured."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def table(columns: Sequence[tuple], rows: Sequence[dict]) -> str:
    """Markdown; a column's function gives a row's cell."""
    cells = ([cell(value(row)) for _, value in columns] for row in rows)
    return tables.table([name for name, _ in columns], cells)


def training_table(names: Sequence[str]) -> str:
    """A row per results file: the step and the share of each part."""
    parts = ("encoder", "decoder", "heads", "rasterizer", "lpips", "optimizer", "rest")

    def share(row, part):
        if part not in row["parts"]:
            return None
        return 100 * row["parts"][part]["cpu_s"] / row["step"]["cpu_s"]

    columns = (
        ("variant", lambda r: r["variant"]),
        ("samples", lambda r: r["batch"]),
        ("input + new views", lambda r: f"{r['views']} + {r['targets']}"),
        ("step, s", lambda r: r["step"]["s"]),
        ("compile, s", lambda r: r["compile_s"]),
        *((f"{part}, %", lambda r, part=part: share(r, part)) for part in parts),
        ("of the matmul rate, %", lambda r: 100 * r["utilization"]["s"]),
        ("input wait, %", lambda r: 100 * r["input_wait_share"]),
        ("peak GiB", lambda r: r["peak_bytes"] / GIB),
    )  # fmt: skip
    return table(columns, [read_results(name) for name in names])


def attention_shares() -> str:
    """Share of a pass that attention between views takes, of both released networks."""
    counts, rows = (4, 24, 100, 150, 400), []
    for name, label, num_refs in (("mvd", "MV-DUSt3R", 1), ("mvdp", "MV-DUSt3R+, R = 4", 4)):
        config, cells = VARIANTS[name], []
        for views in counts:
            given = dict(views=views, num_refs=num_refs)
            whole = forward_flops(config, **given, height=224, width=224)["total"]
            cells.append(f"{across_views_flops(config, **given, tokens=14 * 14) / whole:.0%}")
        rows.append((label, *cells))
    return tables.table(("network", *(f"V = {views}" for views in counts)), rows)


def page() -> str:
    """The whole page."""
    machine = measured_on("forward")
    forward = sorted(read_results("forward"), key=lambda r: (r["dtype"] != "float32", r["views"]))
    splat, start = read_results("splat")["rows"], read_results("start")
    return f"""# Speed

Made by `python -m benchmarks.speed_page` from `benchmarks/results`. Machine: {machine["cores"]}
cores of a shared {machine["cpu"]}, no accelerator, jax {machine["jax"]}. Other work ran beside some
rows: where wall and processor time differ, the second is the one to compare. Nothing was measured
on a GPU or a TPU; `mvdust3r bench` prints the first table for the machine it runs on, and
`python -m benchmarks.gpu` measures everything on a GPU within 8 minutes (parity, forward pass,
rasterizer, training step with and without rematerialization, a run), going on where it stopped.

## Forward pass

MV-DUSt3R+ at full size, 224x224, R = min(4, V), random weights:
`python -m benchmarks.forward --views 2,4,8,12,24`. The closed formula's operations (TFLOP), and
those that are computed on CPUs, where Winograd's algorithm saves four fifths of the skip CNN's
products. The share is what is computed over time, relative to a plain matrix product of the same
type and run.

{table(_FORWARD, forward)}

Whole commands, from photographs to files (`python -m benchmarks.many_views`):

{table(_COMMANDS, read_results("many_views"))}

Operations of attention between views, as a share of a pass of 224x224 (closed formulas,
`models.flops`); beyond, `--window` bounds them:

{attention_shares()}

![Time and memory against the number of views, with the formula's floor](images/forward_views.png)

(`python -m benchmarks.plot_forward`)

## What waits around the network

`mvdust3r reconstruct` of eight photographs by the network that ships (`python -m benchmarks.start`;
CI prints it; to measure wall time, run it on a quiet machine). Processor seconds of all cores, in
one run. A first run
traces and compiles; a second one finds traced programs (`jax.export`), machine code, shapes and
measured rates in `~/.cache/mvdust3r_jax` and imports neither Flax nor SciPy.

{table(_START, start["rows"])}

{table(_START_PARTS, start["parts"])}

A second set of photographs in one process (`mvdust3r view`) takes
{start["second_set_beyond_network_cpu_s"]:.2f} s beyond the network.

## The type of numbers on CPUs

`--dtype bfloat16` is the default where products in it are measured to be at least 2.5 times as fast
as in float32 (once a machine, kept beside the compiled programs). Products leave their sums in
float32 before they are rounded, without which XLA does not use a processor's bfloat16 instructions.
On an AMD EPYC with avx512_bf16, in processor time of both cores beside other work (2026-11-28, no
file of results), a product of 1568x1024 by 1024x4096 ran at 168 GFLOP/s with that, 83 without, at
the same error, and at 95 in float32. A pass of the full-size network of two views took 8.7 s
against 10.4 s in float32, of `small` the same (`mvdust3r bench --dtype bfloat16` shows it for a
machine; the bfloat16 rows of the first table are from before that, on a quieter machine): not worth
its error, so float32 is taken there. Intel processors with AMX
have not been measured with this change.

Its error is small beside the network's own: `python -m benchmarks.half_precision`, the small
network on test rooms of 8 views, differences paired by room with their 95 % intervals ("moved":
mean distance between the two pointmaps over the mean distance of points):

{half_precision.table(read_results("half_precision"))}

## What each change saves

`python -m benchmarks.changes --views 4`: the network compiled anew with one change taken back,
timed right before the program as it is.

{table(_CHANGES, read_results("changes")["rows"])}

"Own view left out" saves a quarter of the scores of 4 views, and less of more; at 4 views attention
is a small part. Not measured: keys and values projected once (the program never did otherwise).

## Serving

From the start of a process to the first result of an exported full-size MV-DUSt3R+, 4 views
(`python -m benchmarks.serving`); `beyond` is what the first result takes beyond one run:

{table(_SERVING, [read_results("serving")])}

## Training step

Shares of parts are of processor time, that of the matmul rate of the clock. The rows come from

```
python -m benchmarks.train --views 4 dtype=float32 data.num_targets=1
python -m benchmarks.train --config configs/small_render.py --views 4 --per_device 4
```

{training_table(("train_mvd", "train_small_mvd"))}

## Rasterizer

`python -m benchmarks.splat`, some of its rows ([splatting](splatting.md) has them all):

{table(_SPLAT, [r for r in splat if r["size"] == 224])}

## Generated rooms

`python -m benchmarks.rooms`, whole samples of 8 input and 2 new views:

{table(_ROOMS, read_results("rooms")["samples"])}
"""


def main() -> None:
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(PAGE.parents[1])}")


if __name__ == "__main__":
    main()
