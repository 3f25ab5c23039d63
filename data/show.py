"""A sheet of one data set: ``python -m data.show DATASET --out sheet.png``.

Per trajectory: the views, their depth, the fused point cloud and the camera path from above. The
reference (first) view is red, other inputs are blue, render-only views green.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data.schema import CorruptRecord
from data.stored.reader import TrajectorySet, Views, decode_views
from data.surfaces import world_points
from mvdust3r_jax.cli import values
from mvdust3r_jax.types import pixels_from_images

_RED, _BLUE, _GREEN = (220, 30, 30), (40, 80, 230), (20, 150, 40)
_WHITE = 255
_COUNT_HELP = "trajectories, at equal distances"


def depth_colors(depth_m: Float[np.ndarray, "H W"], far_m: float) -> UInt8[np.ndarray, "H W 3"]:
    """Near is bright, ``far_m`` dark, unknown black."""
    shown = np.clip(255 * (1 - depth_m / far_m), 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(shown, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(depth_m[..., None] > 0, colors, 0).astype(np.uint8)


def plan_axes(world_from_cam: Float[np.ndarray, "S 4 4"]) -> Float[np.ndarray, "3 3"]:
    """Rows: right, forward and up of a plan, where up is what the cameras agree on."""
    up = -world_from_cam[:, :3, 1].mean(axis=0)
    up /= np.linalg.norm(up)
    forward = world_from_cam[0, :3, 2] - up * (up @ world_from_cam[0, :3, 2])
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(forward, up), forward, up])


def plan_view(views: Views, num_inputs: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Fused points and camera path from above, without what hangs over the cameras."""
    axes = plan_axes(views.world_from_cam)
    points, colors = [], []
    for image, depth, pose, intrinsics in zip(*vars(views).values(), strict=True):
        points.append(world_points(depth, intrinsics, pose, 1) @ axes.T)
        colors.append(pixels_from_images(image[depth > 0]))
    points, colors = np.concatenate(points), np.concatenate(colors)
    cameras = views.world_from_cam[:, :3, 3] @ axes.T
    headings = views.world_from_cam[:, :3, 2] @ axes.T
    # Ceilings would hide the room: half a meter above the highest camera is the limit.
    kept = points[:, 2] < cameras[:, 2].max() + 0.5
    points, colors = points[kept], colors[kept]
    low, high = _extent(points[:, :2], cameras[:, :2])
    middle, scale = (low + high) / 2, 0.85 * size / max(float((high - low).max()), 1e-6)
    order = np.argsort(points[:, 2])
    pixels = _plan_pixels(points[order, :2], middle, scale, size)
    inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
    sheet = np.full((size, size, 3), _WHITE, np.uint8)
    sheet[pixels[inside, 1], pixels[inside, 0]] = colors[order][inside]
    _draw_path(sheet, cameras[:, :2], headings[:, :2], middle, scale, num_inputs)
    return sheet


def _extent(points: Float[np.ndarray, "n 2"], cameras: Float[np.ndarray, "S 2"]) -> np.ndarray:
    """Corners (low, high) around all cameras and, where there are any, nearly all points."""
    corners = np.stack([cameras.min(axis=0), cameras.max(axis=0)])
    if not len(points):
        return corners
    low, high = np.percentile(points, (1, 99), axis=0)
    return np.stack([np.minimum(low, corners[0]), np.maximum(high, corners[1])])


def _plan_pixels(points, middle, scale: float, size: int) -> np.ndarray:
    """Forward is upwards on the sheet."""
    return np.rint(size / 2 + (points - middle) * scale * np.array([1, -1])).astype(int)


def _draw_path(sheet, cameras, headings, middle, scale: float, num_inputs: int) -> None:
    size = len(sheet)
    pixels = _plan_pixels(cameras, middle, scale, size)
    ahead = _plan_pixels(cameras + 0.3 * headings, middle, scale, size)
    for view, (start, end) in enumerate(zip(pixels, ahead, strict=True)):
        color = _GREEN if view >= num_inputs else _BLUE if view else _RED
        cv2.arrowedLine(sheet, start.tolist(), end.tolist(), color, 2, tipLength=0.4)
        cv2.circle(sheet, start.tolist(), 4, color, -1)


def trajectory_rows(views: Views, num_inputs: int) -> UInt8[np.ndarray, "h w 3"]:
    """Views above their depth, the plan beside them; depth is black where none is known."""
    known = views.depth_m[views.depth_m > 0]
    far_m = float(np.percentile(known, 99)) if len(known) else 1.0
    images = pixels_from_images(views.images)
    depths = np.stack([depth_colors(depth, far_m) for depth in views.depth_m])
    tiles = [np.concatenate(list(row), axis=1) for row in (images, depths)]
    colors = [_RED] + [_BLUE] * (num_inputs - 1) + [_GREEN] * (len(images) - num_inputs)
    width = images.shape[2]
    for view, color in enumerate(colors):
        tiles[0][:4, view * width : (view + 1) * width] = color
    left = np.concatenate(tiles, axis=0)
    return np.concatenate([left, plan_view(views, num_inputs, len(left))], axis=1)


def sheet(
    trajectories: TrajectorySet, numbers: Sequence[int], view_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of the given trajectories below each other."""
    rows = []
    num_inputs = trajectories.inputs.shape[1]
    for number in numbers:
        inputs = int((trajectories.inputs[number] >= 0).sum())
        targets = int((trajectories.targets[number] >= 0).sum())
        records = trajectories.records(number, inputs, targets)
        views = decode_views(trajectories.read(records), (view_px, view_px))
        row = trajectory_rows(views, inputs)
        width = (num_inputs + trajectories.targets.shape[1]) * view_px + 2 * view_px
        rows.append(np.pad(row, ((0, 8), (0, width - row.shape[1]), (0, 0)), constant_values=255))
    return np.concatenate(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(prog="python -m data.show", description=__doc__)
    parser.add_argument("dataset", type=values.local_path, help="folder of a built data set")
    parser.add_argument("--out", type=values.local_path, required=True, help="PNG or JPEG file")
    parser.add_argument("--split", default="train")
    parser.add_argument("--count", type=values.positive, default=3, help=_COUNT_HELP)
    parser.add_argument("--size", type=values.positive, default=160, help="pixels of a view")
    args = parser.parse_args(argv)
    try:
        stored = TrajectorySet(args.dataset, args.split)
        numbers = np.linspace(0, len(stored) - 1, min(args.count, len(stored))).round().astype(int)
        picture = sheet(stored, numbers.tolist(), args.size)
    except (CorruptRecord, FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), picture[..., ::-1]):
        raise SystemExit(f"{args.out} could not be written")


if __name__ == "__main__":
    main()
