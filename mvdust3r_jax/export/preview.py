"""``preview.png``: a contact sheet with one column per view: photograph, depth, confidence.

Depth is colored from near (red) to far (violet) between the 2nd and 98th percentile of all
views together, confidence from low (dark) to high (bright) on a logarithmic scale. Pixels outside
the scene are gray.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvdust3r_jax.export.posed_views import depth_maps, usable_pixels, view_colors
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Views per band of the sheet, and the sheet's cell size in pixels.
COLUMNS, CELL_PX = 6, 224
_LABEL_PX, _GAP_PX = 18, 4
_OUTSIDE = np.array([128, 128, 128], np.uint8)
# Samples of matplotlib's "viridis" and of a rainbow that reads as near-to-far; linear between.
_VIRIDIS = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)]
_SPECTRAL = [
    (158, 1, 66), (213, 62, 79), (244, 109, 67), (253, 174, 97), (254, 224, 139), (230, 245, 152),
    (171, 221, 164), (102, 194, 165), (50, 136, 189), (94, 79, 162),
]  # fmt: skip


def colorize(values_01: np.ndarray, table: list[tuple[int, int, int]]) -> np.ndarray:
    """uint8 colors [..., 3] of values in [0, 1] (clipped; NaN becomes gray)."""
    stops = np.linspace(0, 1, len(table))
    channels = [np.interp(np.clip(values_01, 0, 1), stops, np.array(table)[:, c]) for c in range(3)]
    colors = np.round(np.nan_to_num(np.stack(channels, axis=-1))).astype(np.uint8)
    return np.where(np.isfinite(values_01)[..., None], colors, _OUTSIDE)


def depth_colors(scene: SceneArrays) -> np.ndarray:
    """uint8 [V, H, W, 3]; one scale for all views, so that equal colors mean equal depths."""
    depth = np.where(usable_pixels(scene), depth_maps(scene), np.nan)
    return colorize(_spread(depth), _SPECTRAL)


def confidence_colors(scene: SceneArrays) -> np.ndarray:
    """uint8 [V, H, W, 3] of the logarithm of the confidence."""
    confidence = np.maximum(np.asarray(scene.confidence, np.float64), 1)
    return colorize(_spread(np.where(scene.masks, np.log(confidence), np.nan)), _VIRIDIS)


def _spread(values: np.ndarray) -> np.ndarray:
    """Values mapped so that their 2nd and 98th percentile become 0 and 1."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return values
    low, high = np.percentile(finite, [2, 98])
    return (values - low) / max(high - low, 1e-12)


def contact_sheet(scene: SceneArrays) -> Image.Image:
    """The sheet: bands of up to ``COLUMNS`` views, three rows each."""
    rows = [view_colors(scene), depth_colors(scene), confidence_colors(scene)]
    num_views, height, width = rows[0].shape[:3]
    shrink = CELL_PX / max(height, width)
    cell = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    columns = min(num_views, COLUMNS)
    bands = -(-num_views // columns)
    band_height = _LABEL_PX + 3 * (cell[1] + _GAP_PX)
    sheet = Image.new(
        "RGB", (columns * (cell[0] + _GAP_PX) + _GAP_PX, bands * band_height + _GAP_PX), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for view in range(num_views):
        left = _GAP_PX + view % columns * (cell[0] + _GAP_PX)
        top = view // columns * band_height
        draw.text((left, top + 2), _label(scene, view, cell[0] // 7), fill="black", font=font)
        for row, images in enumerate(rows):
            picture = Image.fromarray(images[view]).resize(cell, Image.Resampling.BILINEAR)
            sheet.paste(picture, (left, top + _LABEL_PX + row * (cell[1] + _GAP_PX)))
    return sheet


def _label(scene: SceneArrays, view: int, length: int) -> str:
    """Number and name, and a note where no pose was found; cut to ``length`` characters."""
    note = "" if scene.pose_ok[view] else " (no pose)"
    name = f"{view}: {scene.names[view]}"
    return name[: max(length - len(note), 4)] + note


def write_preview(path: str | Path, scene: SceneArrays) -> None:
    """Write the contact sheet as PNG."""
    with whole_file(path) as partial:
        contact_sheet(scene).save(partial, "PNG", compress_level=1)
