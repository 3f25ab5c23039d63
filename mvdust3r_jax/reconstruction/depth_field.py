"""A smooth field over an image through values at some of its pixels, as a Gaussian process sees it.

Between values it follows them, far from all of them it returns to 0, and single values that no
smooth field has count little. NumPy in float64 on the host.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Of the field: distance over which it changes, in halves of the image's longer side; its standard
# deviation; and that of a value about it. The last two are of logarithms of depths.
_LENGTH, _DEVIATION, _NOISE = 0.3, 0.1, 0.05
# More values than these say little more, and the time grows with their cube.
_MOST_VALUES = 400
_REWEIGHTED = 6
# Every so many-th value is held back; the error there must fall to this share. Values smaller than
# this say nothing: what is triangulated of features is itself off by about a hundredth.
_HELD_EVERY, _WORTH_SHARE, _WORTH = 5, 0.8, 0.02


def depth_field(
    pixel_px: Float[np.ndarray, "n 2"], values: Float[np.ndarray, " n"], height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """The field; 0 everywhere for tiny values, or if it does not bring those held back nearer.

    Args:
      pixel_px: column and row of each value.
      values: logarithms, of mean near 0 and no larger than a few tenths but for outliers.
    """
    half = max(height, width) / 2
    columns, rows = np.arange(width) / half, np.arange(height) / half
    x, y = pixel_px.T / half
    keep = np.random.default_rng(0).permutation(len(values))[:_MOST_VALUES]
    x, y, values = x[keep], y[keep], values[keep]
    held = np.arange(len(values)) % _HELD_EVERY == 0
    error = np.median(np.abs(values[held]))
    if error < _WORTH:
        return np.zeros((height, width))
    bumps = _near(x[held], x[~held]) * _near(y[held], y[~held])
    guess = bumps @ _weights(x[~held], y[~held], values[~held])
    if np.median(np.abs(values[held] - guess)) > _WORTH_SHARE * error:
        return np.zeros((height, width))
    return _near(rows, y) * _weights(x, y, values) @ _near(columns, x).T


def _weights(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each value's bump, [n]: Rasmussen and Williams (2006), equation 2.25, outliers noisier."""
    covariance = _DEVIATION**2 * _near(x, x) * _near(y, y)
    trust = np.ones(len(values))
    for _ in range(_REWEIGHTED):
        weights = np.linalg.solve(covariance + np.diag(_NOISE**2 / trust), values)
        residual = np.abs(values - covariance @ weights)
        trust = np.minimum(1.0, _NOISE / np.maximum(residual, 1e-9))
    return _DEVIATION**2 * weights


def _near(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "a b"]:
    """The covariance's factor of one axis."""
    return np.exp(-0.5 * ((a[:, None] - b) / _LENGTH) ** 2)
