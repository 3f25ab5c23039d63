"""Renders what `make demo` reconstructs: photographs of a generated room, and the truth.

    python -m tools.make_example --out examples/room

Writes ``photographs/NN.jpg`` and ``truth.npz``: the same views at the network's resolution with
depth and cameras, and two render-only views between them (fields of ``types.Batch`` without the
batch axis). The room's seed is one of the test split, which no training ever draws.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from data.rooms import SPLITS, sample_trajectory
from mvdust3r_jax.types import pixels_from_images


def write_photographs(folder: Path, images: np.ndarray) -> None:
    """Images [V, h, w, 3] in [-1, 1] as JPEG files in their order, instead of earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("[0-9][0-9].jpg"):
        earlier.unlink()
    for index, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(pixels_from_images(image)).save(buffer, "JPEG", quality=92)
        (folder / f"{index:02d}.jpg").write_bytes(buffer.getvalue())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=SPLITS["test"][0])
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--targets", type=int, default=2, help="render-only views")
    parser.add_argument("--size", type=int, default=256, help="of the photographs, square pixels")
    parser.add_argument("--network_size", type=int, default=128, help="of the truth")
    parser.add_argument("--baseline", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    photographs, truth = (
        jax.device_get(
            sample_trajectory(
                args.seed, args.views, args.targets, size, size, baseline=args.baseline
            )
        )
        for size in (args.size, args.network_size)
    )
    # Paths are drawn by what a coarse grid of pixels sees, so two sizes could differ.
    if np.abs(photographs.world_from_cam - truth.world_from_cam).max() > 1e-5:
        parser.error(f"seed {args.seed} walks differently at the two sizes; take another")
    write_photographs(args.out / "photographs", photographs.images[: args.views])
    np.savez_compressed(
        args.out / "truth.npz",
        images=pixels_from_images(truth.images),
        depth_m=truth.depth_m.astype(np.float32),
        world_from_cam=truth.world_from_cam.astype(np.float32),
        intrinsics=truth.intrinsics.astype(np.float32),
        seed=args.seed,
    )


if __name__ == "__main__":
    main()
