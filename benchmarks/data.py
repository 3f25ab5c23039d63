"""Samples per second of the input pipeline, where the time goes, and whether memory stays flat.

python -m benchmarks.data DATASET [--inputs 8 --targets 2 --size 224 --memory 10000]

Shares are processor seconds of one thread over the parts of a sample; samples/s are wall time of
the whole iterator with the given threads. DATASET is a folder that ``python -m data.build`` wrote.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import grain
import numpy as np

from benchmarks.machine import machine
from data.augment import Jitter, Window, resample, resample_image
from data.mixture import make_train_iterator
from data.schema import decode_depth_units, decode_image, decode_image_half
from data.stored.config import DataConfig
from data.stored.reader import TrajectorySet, decode_views


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Processor milliseconds of one call, the best of three rounds."""
    work()
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for _ in range(repeats):
            work()
        rounds.append((time.process_time() - start) / repeats * 1e3)
    return min(rounds)


def shares(trajectories: TrajectorySet, args) -> dict[str, float]:
    """Milliseconds of one processor core per sample, by part."""
    cv2.setNumThreads(1)
    records = trajectories.records(0, args.inputs, args.targets)
    frames, size = trajectories.read(records), (args.size, args.size)
    rng = np.random.default_rng(0)
    views = []
    for frame in frames:
        depth = decode_depth_units(frame["depth"], "")
        window = Window.centered(depth.shape, size, frame["intrinsics"], 7)
        # As in training, where a frame that shrinks by more than two is decoded at half size.
        shrinks = window.step_x >= 2
        decode, seen = (decode_image_half, window.halved()) if shrinks else (decode_image, window)
        image = decode(frame["image"], "")
        small = resample_image(image, seen)
        color = functools.partial(decode, frame["image"], ""), image, seen
        views.append((frame, color, depth.astype(np.float32), window, small, Jitter.draw(rng)))
    work = {
        "read records": lambda: trajectories.read(records),
        "decode color": lambda: [v[1][0]() for v in views],
        "decode depth": lambda: [decode_depth_units(v[0]["depth"], "") for v in views],
        "resize color": lambda: [resample_image(*v[1][1:]) for v in views],
        "resize depth": lambda: [resample(v[2], v[3]) for v in views],
        "color jitter": lambda: [v[5](v[4]) for v in views],
        "sample without reading": lambda: decode_views(frames, size, rng=rng),
    }
    return {name: cpu_ms(part, args.repeats) for name, part in work.items()}


def throughput(args, threads: int) -> tuple[float, float]:
    """Samples a second by the wall clock, and processor seconds a sample."""
    iterator = make_train_iterator(config(args, threads), seed=0, batch_size=args.batch)
    for _ in range(2):
        next(iterator)
    start, busy, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < args.seconds:
        next(iterator)
        count += args.batch
    wall = time.perf_counter() - start
    return count / wall, (time.process_time() - busy) / count


def config(args, threads: int) -> DataConfig:
    return DataConfig(
        sources=((str(args.dataset), 1.0),),
        num_inputs=(args.inputs,),
        num_targets=args.targets,
        image_size=(args.size, args.size),
        threads=threads,
    )


def memory(args) -> list[tuple[int, float]]:
    """(samples so far, resident megabytes), ten times over ``args.memory`` samples."""
    iterator = make_train_iterator(config(args, 2), seed=0, batch_size=args.batch)
    points = []
    steps = max(args.memory // args.batch, 10)
    for step in range(1, steps + 1):
        next(iterator)
        if step % (steps // 10) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            points.append((step * args.batch, pages * resource.getpagesize() / 1e6))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--name", default="data", help="of the JSON file")
    parser.add_argument("--inputs", type=int, default=8)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--memory", type=int, default=0, help="samples of the memory test")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    trajectories = TrajectorySet(args.dataset, "train")
    parts = shares(trajectories, args)
    frame = decode_depth_units(trajectories.read([0])[0]["depth"], "").shape
    result = {
        "machine": machine() | {"grain": grain.__version__, "opencv": cv2.__version__},
        "stored_frame": list(frame),
        "views": args.inputs + args.targets,
        "size": args.size,
        "cpu_ms_per_sample": parts,
        "threads": {},
    }
    total = parts["sample without reading"] + parts["read records"]
    print(f"stored {frame[1]}x{frame[0]}, {result['views']} views at {args.size}")
    for name, value in parts.items():
        print(f"{name:24s} {value:8.2f} ms {100 * value / total:5.0f} %")
    for threads in (1, 2, 4):
        rate, busy = throughput(args, threads)
        result["threads"][threads] = {"samples_per_s": rate, "cpu_s_per_sample": busy}
        print(f"{threads} threads: {rate:6.1f} samples/s, {1 / busy:6.1f} samples/s and core")
    if args.memory:
        result["memory_mb"] = memory(args)
        for count, megabytes in result["memory_mb"]:
            print(f"after {count:6d} samples {megabytes:8.0f} MB resident")
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
