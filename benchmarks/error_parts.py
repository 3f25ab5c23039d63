"""Where a network's error lies: views out of place, shapes bent, or details missed.

    python -m benchmarks.error_parts [--weights WEIGHTS --size 128 --views 8 --rooms 24]

On validation rooms, so that what is read off here may guide training. The pointmaps are at the
scale of ND (`metrics.pointmaps.align_pointmaps`); the difference to the truth, a vector of each
pixel, is taken apart by how far it reaches: what is the same in a whole view, what a blur of
`BLUR_PIXELS` leaves, and what it takes away. Lengths of parts do not add up to that of the whole.
Each view but the reference is then laid on the truth by a similarity of its own: how far it is
turned and scaled, and by how many meters its middle lies aside of, and along, the line of sight.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from benchmarks.machine import of_settings, write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.geometry.align import similarity
from mvdust3r_jax.geometry.transforms import rotation_angle_deg, safe_norm
from mvdust3r_jax.geometry.truth import known_depth, reference_from_cameras, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import align_pointmaps
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights

# Standard deviation of the blur; as wide as a patch of the networks that are trained here.
BLUR_PIXELS = 16
# Of a view, in the order of the table.
PLACED = (
    *("turned, deg", "scaled, %"),
    *("along the sight, m", "aside of it, m", "way from view 0, m"),
)


def by_reach(
    difference: Float[np.ndarray, "V H W 3"], blur: float = BLUR_PIXELS
) -> dict[str, float]:
    """Mean lengths in meters of the whole error and of its parts."""
    smooth = gaussian_filter(difference, (0, blur, blur, 0), mode="nearest")
    parts = {
        "all": difference,
        "whole view": difference.mean(axis=(1, 2)),
        "smooth": smooth,
        "detail": difference - smooth,
    }
    return {name: float(np.linalg.norm(part, axis=-1).mean()) for name, part in parts.items()}


@jax.jit
def by_view(points: jax.Array, truth: jax.Array, centers: jax.Array) -> dict[str, jax.Array]:
    """Of each view but the first [V - 1]: how it lies aside its true place.

    Args:
      points: pointmaps [V, H, W, 3] in the frame of view 0, at the truth's scale, meters.
      truth: the same, true.
      centers: true camera centers [V, 3].
    """
    found, true = (x[1:].reshape(len(x) - 1, -1, 3) for x in (points, truth))
    scale, rotation, _ = similarity(found, true, jnp.ones(found.shape[:2]))
    moved = found.mean(axis=1) - true.mean(axis=1)
    sight = true.mean(axis=1) - centers[1:]
    sight = sight / safe_norm(sight, keepdims=True)
    along = (moved * sight).sum(axis=-1)
    numbers = (
        rotation_angle_deg(rotation, jnp.eye(3)[None]),
        100 * jnp.abs(jnp.log(scale)),
        jnp.abs(along),
        safe_norm(moved - along[:, None] * sight),
        safe_norm(centers[1:]),
    )
    return dict(zip(PLACED, numbers, strict=True))


def measure(weights: str, views: int, rooms: int, size: int) -> tuple[list[dict], list[dict]]:
    """Of every room its parts by reach, and medians over its views."""
    config, variables = load_weights(weights)

    @jax.jit
    def answer(batch: Batch):
        points = MVDust3r(config).apply(variables, batch.images).points
        truth, valid = true_pointmaps(batch, 1)[:, 0], known_depth(batch)
        centers = reference_from_cameras(batch.world_from_cam, 1)[:, 0, :, :3, 3]
        return [x[0] for x in (*align_pointmaps(points, truth, valid), points, truth, centers)]

    reaches, placed = [], []
    for room in range(rooms):
        seeds = np.array([SPLITS["validation"][0] + room], np.uint32)
        batch = sample_batch(seeds, views, 0, size, size)
        aligned, centered, points, truth, centers = answer(batch)
        reaches.append(by_reach(np.asarray(aligned - centered)))
        # Alignment divides by a scale and shifts; of the points themselves only the scale is taken.
        scale = jnp.sqrt(jnp.var(aligned, axis=(0, 1, 2)).sum() / jnp.var(points, (0, 1, 2)).sum())
        numbers = by_view(scale * points, truth, centers)
        placed.append({name: float(np.median(x)) for name, x in numbers.items()})
    return reaches, placed


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="weights/room_mvd.safetensors")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--rooms", type=int, default=24)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    reaches, placed = measure(args.weights, args.views, args.rooms, args.size)
    rows = []
    for name in reaches[0]:
        values = np.sort([room[name] for room in reaches])
        rows.append((name, *(f"{f(values):.3f}" for f in (np.mean, np.median, np.max))))
    print(tables.table((f"error of {args.rooms} rooms, m", "mean", "median", "largest"), rows))
    rows = [(name, f"{np.median([room[name] for room in placed]):.3f}") for name in PLACED]
    print(tables.table(("views but the first", "median"), rows))
    told = vars(args) | {"weights": Path(args.weights).name}
    content = {"settings": told, "by_reach": reaches, "by_view": placed}
    write_results(of_settings("error_parts", told), content)


if __name__ == "__main__":
    main()
