"""PSNR and SSIM of images ``[..., H, W, 3]`` in [0, 1], one value per image.

``ssim`` takes the data range 1. ``ssim_release`` takes, like the published evaluation, the larger
of the two images' own ranges (maximum minus minimum), so it says less about low-contrast images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, stabilizing constants (k L)^2.
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def _checked(*images_01: Array) -> list[Array]:
    """Images of one shape and one floating type, at least float32."""
    if len({x.shape for x in images_01}) > 1:
        shapes = " and ".join(str(x.shape) for x in images_01)
        raise ValueError(f"images of one shape are expected, got {shapes}")
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in images_01):
        kinds = ", ".join(str(x.dtype) for x in images_01)
        raise TypeError(f"images of floating-point numbers in [0, 1] are expected, got {kinds}")
    dtype = jnp.result_type(jnp.float32, *images_01)
    return [x.astype(dtype) for x in images_01]


@jax.jit
def psnr(
    image_01: Float[Array, "*batch H W 3"], truth_01: Float[Array, "*batch H W 3"]
) -> Float[Array, "*batch"]:
    """Peak signal-to-noise ratio in dB for data range 1; infinite for identical images.

    Their gradient is 0. Half precision is taken as float32; TypeError for whole numbers, ValueError
    for images of two shapes.
    """
    image_01, truth_01 = _checked(image_01, truth_01)
    mse = jnp.mean((image_01 - truth_01) ** 2, axis=(-3, -2, -1))
    return jnp.where(mse == 0, jnp.inf, -10 * jnp.log10(jnp.where(mse == 0, 1.0, mse)))


def _gaussian_window() -> np.ndarray:
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return weights / weights.sum()


def _blur(images: Float[Array, "n H W c"]) -> Float[Array, "n H W c"]:
    """Separable Gaussian window, borders reflected (without repeating the edge pixel)."""
    half = _WINDOW // 2
    channels = images.shape[-1]
    padded = jnp.pad(images, ((0, 0), (half, half), (half, half), (0, 0)), mode="reflect")
    window = jnp.asarray(_gaussian_window(), images.dtype)
    for shape in ((_WINDOW, 1), (1, _WINDOW)):
        kernel = jnp.tile(window.reshape(*shape, 1, 1), (1, 1, 1, channels))
        padded = jax.lax.conv_general_dilated(
            padded,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
            precision=jax.lax.Precision.HIGHEST,
        )
    return padded


@jax.jit
def ssim(
    image_01: Float[Array, "*batch H W 3"],
    truth_01: Float[Array, "*batch H W 3"],
    data_range: Float[Array, "*batch"] | float = 1.0,
) -> Float[Array, "*batch"]:
    """Structural similarity (Wang et al. 2004, eq. 13), mean over all pixels and channels.

    Images must be of one shape, and at least 6 pixels high and wide. Half precision is taken as
    float32; TypeError for whole numbers.
    """
    image_01, truth_01 = _checked(image_01, truth_01)
    batch = image_01.shape[:-3]
    if min(image_01.shape[-3:-1]) <= _WINDOW // 2:
        raise ValueError(f"SSIM needs more than {_WINDOW // 2} pixels a side: {image_01.shape}")
    a, b = (x.reshape(-1, *x.shape[-3:]) for x in (image_01, truth_01))
    span = jnp.broadcast_to(data_range, batch).reshape(-1, 1, 1, 1)
    # Centered values lose fewer digits in the variances.
    center = 0.5 * (a.mean(axis=(1, 2, 3)) + b.mean(axis=(1, 2, 3))).reshape(-1, 1, 1, 1)
    a, b = a - center, b - center
    blurred = _blur(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mean_a, mean_b, square_a, square_b, product = jnp.split(blurred, 5, axis=-1)
    variance_a = jnp.maximum(square_a - mean_a**2, 0.0)
    variance_b = jnp.maximum(square_b - mean_b**2, 0.0)
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + center, mean_b + center
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    value = value / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
    return value.mean(axis=(1, 2, 3)).reshape(batch)


@jax.jit
def ssim_release(
    image_01: Float[Array, "*batch H W 3"], truth_01: Float[Array, "*batch H W 3"]
) -> Float[Array, "*batch"]:
    """SSIM with each pair's own data range, as published; NaN for two constant images."""
    image_01, truth_01 = _checked(image_01, truth_01)
    axes = (-3, -2, -1)
    ranges = [x.max(axis=axes) - x.min(axis=axes) for x in (image_01, truth_01)]
    span = jnp.maximum(*ranges)
    # Of constant images the variances are rounding errors, and nothing stabilizes their ratio.
    return jnp.where(span > 0, ssim(image_01, truth_01, span), jnp.nan)
