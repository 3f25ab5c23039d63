"""One self-contained page: the points in 3-D, every view's pictures and camera, the timings.

The page loads nothing: script, style, pictures and points are inside, and its content policy
forbids any connection, so it can be mailed or opened from disk. Points are stored as 16-bit
positions in their bounding box, 8-bit colors and 8-bit confidence ranks (10 bytes a point).
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.cameras_json import cameras_dict, conventions
from mvdust3r_jax.export.cloud import cloud
from mvdust3r_jax.export.point_filter import within_budget
from mvdust3r_jax.export.posed_views import down_direction, posed_views, usable_pixels, view_colors
from mvdust3r_jax.export.preview import confidence_colors, depth_colors
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# 200,000 points are 2.7 MB of page and enough to cover a screen.
MAX_POINTS = 200_000
# Points outside these percentiles do not stretch the box that positions are rounded in.
_BOX_PERCENTILES = (0.5, 99.5)
# The box is widened by this share on each side; what lies beyond is left out of the page.
_BOX_MARGIN = 0.5
PICTURE_PX = 256


def write_html(path: str | Path, scene: SceneArrays, max_points: int = MAX_POINTS) -> None:
    """Write the page with at most ``max_points`` of the masked points, chosen at random."""
    page = resources.files("mvdust3r_jax.export").joinpath("page.html").read_text("utf-8")
    # "<" would end the script element (names come from file names); JSON has an escape for it.
    data = json.dumps(page_data(scene, max_points), allow_nan=False).replace("<", "\\u003c")
    title = html.escape(f"{len(scene.names)} views")
    filled = page.replace("{{title}}", title).replace("{{data}}", data, 1)
    with whole_file(path) as partial:
        partial.write_text(filled, "utf-8")


def page_data(scene: SceneArrays, max_points: int) -> dict:
    """What the page's script reads, as plain Python data; graphics hold no more than float32."""
    scene, origin = scene.recentered()
    told = conventions(scene)
    if origin.any():
        told = told | {"origin": f"positions on this page are relative to {origin.tolist()}"}
    depth = frusta.frustum_depth(scene)
    pictures = zip(view_colors(scene), depth_colors(scene), confidence_colors(scene), strict=True)
    views = cameras_dict(scene)["views"]
    posed = set(posed_views(scene).tolist())
    for index, (view, images) in enumerate(zip(views, pictures, strict=True)):
        view["pictures"] = [_data_uri(image) for image in images]
        view["color"] = frusta.view_color(index, len(views))
        view["frustum"] = (
            frusta.corners(scene, index, depth).round(6).tolist() if index in posed else None
        )
    timings = {name: float(seconds) for name, seconds in scene.timings.items()}
    points = packed_points(scene, max_points)
    total = int(usable_pixels(scene).sum())
    return {
        "views": views,
        "points": points,
        "total_points": total,
        "timings": timings,
        "conventions": told,
        "down": down_direction(scene).tolist(),
    }


def packed_points(scene: SceneArrays, max_points: int) -> dict:
    """Points as base64: ``position`` uint16 [n, 3] in the box, ``color`` uint8 [n, 4].

    The fourth color byte is the confidence rank: 0 for the least, 255 for the most confident.
    """
    keep = within_budget(usable_pixels(scene), max_points)
    points, colors, confidence = cloud(dataclasses.replace(scene, masks=keep))
    low, high = _box(points)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    points, colors, confidence = points[inside], colors[inside], confidence[inside]
    position = np.round((points - low) / (high - low) * 65535).astype("<u2")
    order = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    rank = (order * 255 // max(len(order) - 1, 1)).astype(np.uint8)
    return {
        "count": len(points),
        "low": low.tolist(),
        "high": high.tolist(),
        "position": base64.b64encode(position.tobytes()).decode(),
        "color": base64.b64encode(np.column_stack([colors, rank]).tobytes()).decode(),
    }


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of a box that ignores far outliers; never flat."""
    if not len(points):
        return np.zeros(3), np.ones(3)
    low, high = np.percentile(points.astype(np.float64), _BOX_PERCENTILES, axis=0)
    extent = np.maximum(high - low, 1e-3 * np.max(high - low) + 1e-9)
    return low - _BOX_MARGIN * extent, high + _BOX_MARGIN * extent


def _data_uri(image: np.ndarray) -> str:
    """A uint8 picture as a JPEG data URI, at most ``PICTURE_PX`` wide and high."""
    picture = Image.fromarray(image)
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
