"""What a training run carries from step to step, and how a batch is cut into micro-batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, UInt32

from mvdust3r_jax import pytrees
from mvdust3r_jax.types import Batch


@pytrees.dataclass
class TrainState:
    """All that a step reads and writes.

    step: batches seen, skipped ones too. average: moving average of the parameters, {} when off.
    skipped, skipped_in_row: steps whose loss, gradient or update was not finite. rng: seed of the
    run's randomness; step k uses ``fold_in(rng, k)``, so nothing else need be remembered.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any
    skipped: Int[Array, ""]
    skipped_in_row: Int[Array, ""]
    rng: UInt32[Array, "2"]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """accumulation: micro-batches a step. average_decay: of the parameters' average, 0 = off."""

    accumulation: int = 1
    average_decay: float = 0.0

    def __post_init__(self):
        if self.accumulation < 1:
            raise ValueError(f"accumulation must be at least 1, got {self.accumulation}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must lie in [0, 1), got {self.average_decay}")


def init_state(
    variables: dict, optimizer: optax.GradientTransformation, config: StepConfig, seed: int
) -> TrainState:
    """State before the first step; the average starts at the parameters themselves."""
    params = variables["params"]

    # One program: outside of it every array would need its own.
    @jax.jit
    def rest(params: Any) -> dict[str, Any]:
        return {
            "opt_state": optimizer.init(params),
            "average": jax.tree.map(jnp.copy, params) if config.average_decay else {},
            "rng": jax.random.key_data(jax.random.key(seed)),
            **{name: jnp.zeros((), jnp.int32) for name in ("step", "skipped", "skipped_in_row")},
        }

    return TrainState(params=params, batch_stats=variables.get("batch_stats", {}), **rest(params))


def split_micro_batches(batch: Batch, parts: int) -> Batch:
    """``[B, ...]`` to ``[parts, B / parts, ...]``, strided.

    Sample i goes to part ``i % parts``, so the parts do not depend on how the batch is spread.
    """
    size = batch.images.shape[0]
    if size % parts:
        raise ValueError(f"a batch of {size} per device cannot be split into {parts} micro-batches")
    return jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(size // parts, parts, *x.shape[1:]), 1, 0), batch
    )


def moving_average(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Early steps average over a tenth of the steps so far instead of over 1 / (1 - decay)."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
