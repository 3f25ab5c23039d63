"""What a cheap camera does to an image: exposure, white balance, vignetting, blur, noise, JPEG.

Rendered images are cleaner than photographs; a network trained on them alone relies on that. All
faults are drawn in one jitted program. A sample's views share a camera (vignetting, response curve,
blur, quality) and differ in what a camera sets for each picture (exposure, white balance). Geometry
is untouched: no fault moves an edge.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Largest faults, drawn at strength 1.
EXPOSURE_STOPS, VIEW_STOPS = 0.7, 0.3  # of a sample, and of a view beyond it
BALANCE, VIEW_BALANCE = 0.25, 0.08  # log gain of red and blue against green
GAMMA = 0.35  # log of the response curve's exponent
CORNER = 0.5  # share of the light that is lost in the corners
BLUR = 1.0  # share of a 3 x 3 binomial blur, applied twice
READ_NOISE, SHOT_NOISE = 0.02, 0.04  # deviation at black, and its growth with the root of light
JPEG_STEP = 0.12  # step of the coarsest frequency's quantization, the lowest a fifth of it
BLOCK = 8  # pixels of a JPEG block's side


def _cosines() -> np.ndarray:
    """Orthonormal DCT-II of one block's side: frequency, pixel."""
    pixel = np.arange(BLOCK)
    table = np.cos(math.pi * (pixel + 0.5) * pixel[:, None] / BLOCK) * math.sqrt(2 / BLOCK)
    table[0] = math.sqrt(1 / BLOCK)
    return table.astype(np.float32)


def _quantized(images: Array, step: Float[Array, "B 1 1"]) -> Array:
    """Images whose blocks' frequencies are rounded to multiples of a step that grows with them."""
    batch, views, height, width, channels = images.shape
    blocks = images.reshape(batch, views, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    table = _cosines()
    frequency = np.arange(BLOCK)
    growth = (0.2 + 0.8 * (frequency[:, None] + frequency) / (2 * BLOCK - 2)).astype(np.float32)
    step = BLOCK / 2 * step[..., None] * growth[None, None]
    step = step.reshape(batch, 1, 1, BLOCK, 1, BLOCK, 1)
    levels = jnp.einsum("uy,vx,bsiyjxc->bsiujvc", table, table, blocks)
    levels = jnp.round(levels / step) * step
    return jnp.einsum("uy,vx,bsiujvc->bsiyjxc", table, table, levels).reshape(images.shape)


def _blurred(images: Array, share: Float[Array, "B 1 1 1 1"]) -> Array:
    """A binomial blur along each side, mixed with the image; borders continue."""
    for axis in (2, 3):
        padding = [(0, 0)] * images.ndim
        padding[axis] = (1, 1)
        padded = jnp.pad(images, padding, mode="edge")
        size = images.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
        images = images + share * (0.25 * (before + after) - 0.5 * images)
    return images


def _vignette(height: int, width: int) -> Float[np.ndarray, "H W 1"]:
    """Squared distance from the middle, 1 in the corners."""
    y, x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    return (0.5 * (y[:, None] ** 2 + x**2))[..., None].astype(np.float32)


def photograph(
    key: Array, images_01: Float[Array, "B S H W 3"], strength: float | Array = 1.0
) -> Float[Array, "B S H W 3"]:
    """The same views as a cheap camera takes them, in [0, 1]; strength 0 changes nothing.

    Each sample draws how strong all of its faults are, so some stay nearly clean.

    Raises:
      ValueError: image sides are not multiples of 8.
    """
    batch, views, height, width = images_01.shape[:4]
    if height % BLOCK or width % BLOCK:
        raise ValueError(f"image sides must be multiples of {BLOCK}, got {height} x {width}")
    keys = iter(jax.random.split(key, 12))

    def draw(shape: tuple[int, ...], low: float = -1.0) -> Array:
        return jax.random.uniform(next(keys), shape, minval=low)

    of_sample, of_view = (batch, 1, 1, 1, 1), (batch, views, 1, 1, 1)
    amount = strength * draw(of_sample, 0.0)
    stops = EXPOSURE_STOPS * draw(of_sample) + VIEW_STOPS * draw(of_view)
    balance = BALANCE * draw((batch, 1, 1, 1, 2)) + VIEW_BALANCE * draw((batch, views, 1, 1, 2))
    balance = jnp.insert(balance, 1, 0.0, axis=-1)
    gain = jnp.exp(amount * (stops * math.log(2) + balance))
    corner = 1 - amount * CORNER * draw(of_sample, 0.0) * _vignette(height, width)[None, None]
    exponent = jnp.exp(amount * GAMMA * draw(of_sample))
    light = jnp.clip(images_01 * gain * corner, 1e-4, 1.0) ** exponent
    share = amount * BLUR * draw(of_sample, 0.0)
    light = _blurred(_blurred(light, share), share)
    level = amount * draw(of_sample, 0.0)
    deviation = level * (READ_NOISE + SHOT_NOISE * jnp.sqrt(light))
    light = light + deviation * jax.random.normal(next(keys), light.shape)
    step = jnp.maximum(amount * JPEG_STEP * draw(of_sample, 0.0), 1e-5)
    taken = jnp.clip(_quantized(light, step[:, :, 0, 0]), 0.0, 1.0)
    return jnp.where(amount > 0, taken, images_01)
