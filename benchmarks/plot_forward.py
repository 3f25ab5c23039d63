"""Draws time and memory of the forward pass against the number of views.

    python -m benchmarks.plot_forward --out docs/images/forward_views.png

Points are the rows of benchmarks/results/forward.json (compiled program alone) and of
many_views.json (whole command), in seconds of processor time over the number of cores, because the
machine may have been shared; lines are the closed formula: operations as CPUs compute them over
the matmul rate measured beside the rows, and the memory that ``mvdust3r`` announces.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.machine import measured_on, read_results
from mvdust3r_jax import VARIANTS
from mvdust3r_jax.models.flops import computed_flops
from mvdust3r_jax.reconstruction import memory

GIB = 2**30
VIEWS = np.unique(np.geomspace(2, 100, 40).astype(int))


def flops(views: int) -> float:
    refs = min(4, views)
    size = dict(views=int(views), num_refs=refs, height=224, width=224)
    return computed_flops(VARIANTS["mvdp"], "cpu", **size)


def draw(path: str) -> None:
    passes = [
        r for r in read_results("forward") if r["variant"] == "mvdp" and r["dtype"] == "float32"
    ]
    whole = [r for r in read_results("many_views") if r["weights"] == "mvdp" and r["R"] == 4]
    rate = float(np.median([r["matmul_rate"]["cpu_s"] for r in passes]))
    cores = measured_on("many_views")["cores"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    floor = [flops(v) / rate for v in VIEWS]
    left.plot(VIEWS, floor, "k-", lw=1, label=f"formula at {rate / 1e9:.0f} GFLOP/s")
    left.plot(
        [r["views"] for r in passes], [r["cpu_s"] for r in passes], "o", label="compiled pass"
    )
    left.plot(
        [r["V"] for r in whole], [r["all CPU s"] / cores for r in whole], "s", mfc="none",
        label="whole command",
    )  # fmt: skip
    left.set(
        xscale="log", yscale="log", xlabel="views", ylabel=f"processor seconds / {cores} cores"
    )
    announced = [
        memory.estimate(VARIANTS["mvdp"], int(v), min(4, int(v)), 224, 224).bytes for v in VIEWS
    ]
    right.plot(VIEWS, np.array(announced) / GIB, "k-", lw=1, label="announced")
    right.plot(
        [r["V"] for r in whole], [r["peak GiB"] for r in whole], "s", mfc="none",
        label="peak of the command",
    )  # fmt: skip
    right.set(xscale="log", xlabel="views", ylabel="GiB", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.suptitle("MV-DUSt3R+ at 224x224, float32, R = min(4, V)")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="docs/images/forward_views.png")
    draw(parser.parse_args().out)


if __name__ == "__main__":
    main()
