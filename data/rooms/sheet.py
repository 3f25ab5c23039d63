"""Contact sheet of generated rooms: ``python -m data.rooms.sheet --out rooms.jpg``.

One row a room: its views in walking order (the render-only ones last), then depth and normals of
the first view.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from data.rooms.options import Options
from data.rooms.sample import sample_batch
from data.rooms.scene import DEFAULT_OPTIONS, SPLITS
from mvdust3r_jax.geometry.camera import depth_to_world
from mvdust3r_jax.types import Batch, images_01_from

# Depth at which the gray scale ends.
FAR_M = 8.0


def sheet(batch: Batch) -> np.ndarray:
    """Rows of views, then depth and normals of the first: ``uint8 [B * H, (S + 2) * W, 3]``."""
    images = images_01_from(np.asarray(batch.images))
    depth = np.asarray(batch.depth_m[:, 0])
    near = np.clip(1 - depth / FAR_M, 0, 1)[..., None].repeat(3, axis=-1)
    normals = (normals_from_depth(batch)[:, 0] + 1) / 2
    tiles = np.concatenate([images, near[:, None], normals[:, None]], axis=1)
    rows = np.moveaxis(tiles, 1, 2)
    rows = rows.reshape(rows.shape[0] * rows.shape[1], -1, 3)
    return np.rint(rows * 255).astype(np.uint8)


def normals_from_depth(batch: Batch) -> np.ndarray:
    """World normals from differences of neighboring points, ``[B, S, H, W, 3]``; edges repeat."""
    points = np.asarray(depth_to_world(batch.depth_m, batch.intrinsics, batch.world_from_cam))
    right = np.diff(points, axis=3, append=points[:, :, :, -1:])
    down = np.diff(points, axis=2, append=points[:, :, -1:])
    normal = np.cross(down, right)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal / np.maximum(length, 1e-12)


def main() -> None:
    """Render and write one sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=sorted(SPLITS), default="validation")
    parser.add_argument("--first", type=int, default=0, help="first seed, from the split's start")
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--inputs", type=int, default=5)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--baseline", type=float, default=1.0)
    parser.add_argument("--multi-room", type=float, default=DEFAULT_OPTIONS.multi_room)
    parser.add_argument("--dark", type=float, default=1.0, help="factor on all light")
    args = parser.parse_args()
    seeds = SPLITS[args.split][0] + args.first + np.arange(args.rooms)
    options = Options(multi_room=args.multi_room, dark=args.dark)
    batch = sample_batch(
        seeds, args.inputs, args.targets, args.size, args.size,
        baseline=args.baseline, options=options,
    )  # fmt: skip
    image = Image.fromarray(sheet(jax.device_get(batch)))
    image.save(args.out, quality=82) if args.out.suffix != ".png" else image.save(args.out)


if __name__ == "__main__":
    main()
