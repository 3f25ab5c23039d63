"""A network with its weights: what evaluation and reconstruction work with."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """``variables``: ``{"params", "batch_stats"}`` of ``MVDust3r(config)``."""

    config: ModelConfig
    variables: dict[str, Any] = dataclasses.field(repr=False)


def random_variables(config: ModelConfig) -> dict[str, Any]:
    """Small numbers, none negative as batch statistics must be; times do not depend on them."""
    from mvdust3r_jax.models.mvdust3r import abstract_variables

    rng = np.random.default_rng(0)

    def draw(like: jax.ShapeDtypeStruct) -> np.ndarray:
        return (0.02 * rng.standard_normal(like.shape, np.float32)) ** 2

    return jax.tree.map(draw, abstract_variables(config))
