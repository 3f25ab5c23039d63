"""Networks with random weights, for which nothing is compiled: `init` is a large program."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.models.mvdust3r import abstract_variables


def random_variables(config: ModelConfig, seed: int = 0) -> dict[str, Any]:
    """Of a size that keeps signals; also what starts at zero or one is drawn."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, like: Any) -> Any:
        values = rng.standard_normal(like.shape)
        name = path[-1].key
        if name == "var":
            values = np.exp(0.1 * values)
        elif name == "scale":
            values = 1 + 0.1 * values
        elif name == "kernel":
            # Of convolutions [h, w, in, out], of dense layers [(layers,) in, out].
            taps = like.shape[:-1] if like.ndim == 4 else like.shape[-2:-1]
            values = values / np.sqrt(np.prod(taps))
        else:
            values = 0.1 * values
        return jax.device_put(values.astype(like.dtype))

    return jax.tree_util.tree_map_with_path(draw, abstract_variables(config))
