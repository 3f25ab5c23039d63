"""Crop, resize and colour jitter, with intrinsics that follow exactly.

Crop and resize are one axis-aligned map from output to source pixels (``Window``), so that every
image is resampled once. Images are ``[H, W, 3]``, uint8 or float in [0, 1] where the name says
``_01``; depth ``[H, W]`` along z, 0 where unknown. The first pixel's centre is (0, 0).

The published recipe (MV-DUSt3R, as in DUSt3R): crop such that the principal point is the centre,
resize so that the image is 0..15 pixels larger than wanted, crop the centre; brightness, contrast
and saturation by factors in [0.5, 1.5], hue by up to 0.1 of a turn, in random order, each view on
its own.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data.features import CorruptRecord

# Neighbouring depths that differ by more than this share are different surfaces: a plane seen at
# 80 degrees to its normal changes by 3 % a pixel at a focal length of 200.
_SAME_SURFACE = 0.03
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)
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
    def centred(
        cls,
        source: tuple[int, int],
        size: tuple[int, int],
        intrinsics: Float[np.ndarray, "3 3"],
        extra_px: int = 0,
    ) -> Window:
        """The largest window whose principal point is (width/2, height/2), then enlarged.

        extra_px: the image is resized to the wanted size plus this, and the centre cropped.
        """
        height, width = size
        centre_x, centre_y = float(intrinsics[0, 2]), float(intrinsics[1, 2])
        # Pixel borders: -0.5 and size - 0.5. The same step in x and y keeps the pixels' shape.
        steps = [
            (centre_x + 0.5) / (width / 2 + 0.5),
            (source[1] - 0.5 - centre_x) / (width / 2 - 0.5),
            (centre_y + 0.5) / (height / 2 + 0.5),
            (source[0] - 0.5 - centre_y) / (height / 2 - 0.5),
        ]
        step = min(steps)
        if step <= 0:
            raise CorruptRecord(f"principal point {centre_x, centre_y} lies outside {source}")
        step *= min(size) / (min(size) + extra_px)
        return cls(size, step, step, centre_x - step * width / 2, centre_y - step * height / 2)

    def intrinsics(self, source: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """The output's intrinsics, from the source's."""
        steps = np.array([self.step_x, self.step_y])
        result = np.array(source, np.float64)
        result[:2, :2] /= steps[:, None]
        result[:2, 2] = (result[:2, 2] - [self.left, self.top]) / steps
        return result.astype(np.float32)

    def rows(self) -> Float[np.ndarray, "H"]:
        """Source row of every output row."""
        return self.top + self.step_y * np.arange(self.size[0])

    def columns(self) -> Float[np.ndarray, "W"]:
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
    rows, columns = window.rows(), window.columns()
    nearest = depth[np.ix_(_index(rows, depth.shape[0]), _index(columns, depth.shape[1]))]
    map_x, map_y = _fraction(columns, depth.shape[1]), _fraction(rows, depth.shape[0])
    (x0, fx), (y0, fy) = map_x, map_y
    with np.errstate(divide="ignore"):
        inverse = 1 / depth
    upper = _lerp(inverse[y0], inverse[y0 + 1], fy[:, None])
    smooth = 1 / _lerp(upper[:, x0], upper[:, x0 + 1], fx[None, :])
    with np.errstate(invalid="ignore"):
        same = np.abs(smooth - nearest) < _SAME_SURFACE * nearest
    return np.where(same, smooth, nearest)


def _index(positions: np.ndarray, size: int) -> np.ndarray:
    return np.clip(np.floor(positions + 0.5).astype(np.int64), 0, size - 1)


def _fraction(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower neighbour and the weight of the upper one; outside, the border is continued."""
    lower = np.clip(np.floor(positions).astype(np.int64), 0, size - 2)
    return lower, (positions - lower).astype(np.float32)


def _lerp(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    # Unknown depth is an infinite inverse: infinity minus itself must not warn, only lose.
    with np.errstate(invalid="ignore"):
        return low + weight * (high - low)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """One draw of the colour jitter. order: of brightness, contrast, saturation, hue as 0..3."""

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

    def __call__(self, image_01: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
        """The jittered image in [0, 1]."""
        steps = (self._brightness, self._contrast, self._saturation, self._hue)
        for step in self.order:
            image_01 = steps[step](image_01)
        return image_01

    def _brightness(self, image):
        return np.clip(image * np.float32(self.brightness), 0, 1)

    def _contrast(self, image):
        mean = (image @ _GRAY).mean()
        return _blend(image, mean, self.contrast)

    def _saturation(self, image):
        return _blend(image, (image @ _GRAY)[..., None], self.saturation)

    def _hue(self, image):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + np.float32(360 * self.hue_turns)) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _blend(image: np.ndarray, other, weight: float) -> np.ndarray:
    return np.clip(image * np.float32(weight) + other * np.float32(1 - weight), 0, 1)
