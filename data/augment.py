"""Crop, resize and color jitter, with intrinsics that follow exactly.

Crop and resize are one axis-aligned map from output to source pixels (``Window``), so that every
image is resampled once. Images are uint8 ``[H, W, 3]``; depth is ``[H, W]`` along z, 0 where
unknown. The first pixel's center is (0, 0).

The published recipe (MV-DUSt3R, as in DUSt3R): crop such that the principal point is the center,
resize so that the image is 0..15 pixels larger than wanted, crop the center; brightness, contrast
and saturation by factors in [0.5, 1.5], hue by up to 0.1 of a turn, in random order, each view on
its own.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data.schema import CorruptRecord

# Neighboring depths that differ by more than this share are different surfaces: a plane seen at
# 80 degrees to its normal changes by 3 % a pixel at a focal length of 200.
_SAME_SURFACE = 0.03
_LEVELS = np.arange(256)
MAX_EXTRA_PX = 15


@dataclasses.dataclass(frozen=True)
class Window:
    """Output pixel (u, v) shows the source at ``(u * step_x + left, v * step_y + top)``.

    size: output (height, width).
    """

    size: tuple[int, int]
    step_x: float
    step_y: float
    left: float
    top: float

    @classmethod
    def whole(cls, source: tuple[int, int], size: tuple[int, int]) -> Window:
        """All of a source (height, width): outer pixel borders stay outer pixel borders."""
        step_y, step_x = source[0] / size[0], source[1] / size[1]
        return cls(size, step_x, step_y, (step_x - 1) / 2, (step_y - 1) / 2)

    @classmethod
    def centered(
        cls,
        source: tuple[int, int],
        size: tuple[int, int],
        intrinsics: Float[np.ndarray, "3 3"],
        extra_px: int = 0,
    ) -> Window:
        """The largest window whose principal point is (width/2, height/2), then enlarged.

        extra_px: the image is resized to the wanted size plus this, and the center cropped.
        """
        height, width = size
        center_x, center_y = float(intrinsics[0, 2]), float(intrinsics[1, 2])
        # Pixel borders: -0.5 and size - 0.5. The same step in x and y keeps the pixels' shape.
        steps = [
            (center_x + 0.5) / (width / 2 + 0.5),
            (source[1] - 0.5 - center_x) / (width / 2 - 0.5),
            (center_y + 0.5) / (height / 2 + 0.5),
            (source[0] - 0.5 - center_y) / (height / 2 - 0.5),
        ]
        step = min(steps)
        if step <= 0:
            raise CorruptRecord(f"principal point {center_x, center_y} lies outside {source}")
        step *= min(size) / (min(size) + extra_px)
        return cls(size, step, step, center_x - step * width / 2, center_y - step * height / 2)

    def halved(self) -> Window:
        """The same window on the source at half its size, whose pixels are means of two by two."""
        left, top = (self.left - 0.5) / 2, (self.top - 0.5) / 2
        return Window(self.size, self.step_x / 2, self.step_y / 2, left, top)

    def intrinsics(self, source: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """The output's intrinsics, from the source's."""
        steps = np.array([self.step_x, self.step_y])
        result = np.array(source, np.float64)
        result[:2, :2] /= steps[:, None]
        result[:2, 2] = (result[:2, 2] - [self.left, self.top]) / steps
        return result.astype(np.float32)

    def rows(self) -> Float[np.ndarray, " H"]:
        """Source row of every output row."""
        return self.top + self.step_y * np.arange(self.size[0])

    def columns(self) -> Float[np.ndarray, " W"]:
        """Source column of every output column."""
        return self.left + self.step_x * np.arange(self.size[1])


def resample_image(image: UInt8[np.ndarray, "h w 3"], window: Window) -> UInt8[np.ndarray, "H W 3"]:
    """Lanczos over the window (anti-aliased where it shrinks)."""
    # Pillow's box is in border coordinates, where the first pixel reaches from 0 to 1.
    left, top = window.left + 0.5 - window.step_x / 2, window.top + 0.5 - window.step_y / 2
    right = left + window.step_x * window.size[1]
    bottom = top + window.step_y * window.size[0]
    # Rounding may put the box outside the image by a part of 1e-12.
    box = max(left, 0), max(top, 0), min(right, image.shape[1]), min(bottom, image.shape[0])
    height, width = window.size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(resized)


def resample(depth: Float[np.ndarray, "h w"], window: Window) -> Float[np.ndarray, "H W"]:
    """Depth at the window's pixels: linear in 1/depth on a surface, nearest elsewhere.

    The inverse depth of a plane is linear in the pixel, so planes stay exact; the published recipe
    takes the nearest pixel, which shifts surfaces by up to half a source pixel. Across an edge or
    next to unknown depth the nearest value is taken, never a mixture.
    """
    (y0, fy), (x0, fx) = (
        _fraction(positions, size)
        for positions, size in zip((window.rows(), window.columns()), depth.shape, strict=True)
    )
    # Rows first: whole rows are copied fast. Named by row (upper, lower) and column (left, right).
    upper, lower = depth[y0], depth[y0 + 1]
    corners = [side.take(columns, axis=1) for side in (upper, lower) for columns in (x0, x0 + 1)]
    down, right = (fy >= 0.5)[:, None], (fx >= 0.5)[None]
    nearest = np.where(
        down, np.where(right, corners[3], corners[2]), np.where(right, corners[1], corners[0])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = [1 / corner for corner in corners]
        top, bottom = (_lerp(*pair, fx[None]) for pair in (inverse[:2], inverse[2:]))
        smooth = 1 / _lerp(top, bottom, fy[:, None])
        same = np.abs(smooth - nearest) < _SAME_SURFACE * nearest
    return np.where(same, smooth, nearest)


def _fraction(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower neighbor and the weight of the upper one; outside, the border is continued."""
    lower = np.clip(np.floor(positions).astype(np.int64), 0, size - 2)
    return lower, (positions - lower).astype(np.float32)


def _lerp(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return low + weight * (high - low)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """One draw of the color jitter. order: of brightness, contrast, saturation, hue as 0..3."""

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue_turns: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float = 0.5, hue: float = 0.1) -> Jitter:
        """Factors uniform in [1 - strength, 1 + strength], hue in [-hue, hue]."""
        factors = rng.uniform(1 - strength, 1 + strength, 3)
        return cls(tuple(rng.permutation(4)), *map(float, factors), float(rng.uniform(-hue, hue)))

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The jittered image; each step rounds to 8 bits, as the published recipe's does."""
        steps = (self._brightness, self._contrast, self._saturation, self._hue)
        for step in self.order:
            image = steps[step](image)
        return image

    def _brightness(self, image):
        return cv2.LUT(image, _rounded(_LEVELS * self.brightness))

    def _contrast(self, image):
        mean = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
        return cv2.LUT(image, _rounded(_LEVELS * self.contrast + mean * (1 - self.contrast)))

    def _saturation(self, image):
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(image, self.saturation, gray, 1 - self.saturation, 0)

    def _hue(self, image):
        # A turn is 256 steps of this format's hue, and unsigned bytes wrap around by themselves.
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(256 * self.hue_turns) % 256)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _rounded(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
