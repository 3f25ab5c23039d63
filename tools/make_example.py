"""Renders the example that `make demo` ships with: a walk through one generated room.

    python -m tools.make_example --out examples/room

Writes posed RGB-D frames in the plain layout of ``data.rgbd``:
every fourth frame into ``held_out``, the others into ``seen``; both share one world frame.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from data.features import encode_depth
from data.rooms import SPLITS, sample_trajectory

HOLD_OUT_EVERY = 4


def write_plain(folder: Path, views, indices: range | list[int]) -> None:
    """Frames ``indices`` of ``views``, a Batch without the batch axis."""
    for part in ("rgb", "depth", "pose"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "intrinsics.txt", views.intrinsics[0], fmt="%.6f")
    for index in indices:
        image, depth_m = views.images[index], views.depth_m[index]
        pose, name = views.world_from_cam[index], f"{index:03d}"
        buffer = io.BytesIO()
        pixels = np.rint((image + 1) * 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
        (folder / "rgb" / f"{name}.jpg").write_bytes(buffer.getvalue())
        (folder / "depth" / f"{name}.png").write_bytes(encode_depth(depth_m))
        np.savetxt(folder / "pose" / f"{name}.txt", pose, fmt="%.7f")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=SPLITS["test"][0])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, help="pixels, square")
    parser.add_argument("--baseline", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    views = sample_trajectory(
        args.seed, args.frames, 0, args.size, args.size, baseline=args.baseline
    )
    views = jax.device_get(views)
    held_out = range(HOLD_OUT_EVERY // 2, args.frames, HOLD_OUT_EVERY)
    write_plain(args.out / "held_out", views, held_out)
    write_plain(args.out / "seen", views, sorted(set(range(args.frames)) - set(held_out)))


if __name__ == "__main__":
    main()
