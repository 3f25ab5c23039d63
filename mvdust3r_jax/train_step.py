"""One training step as a pure function of (state, batch), the same for every way of spreading it.

The step computes gradients (optionally summed over micro-batches), updates parameters, batch
statistics and their moving average, and leaves everything as it was when the loss or a gradient is
not finite. With ``axis_name`` it runs under ``pmap``: losses are shares (see ``losses``), so
summing gradients over devices gives the gradient of the whole batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt32

from mvdust3r_jax import parallel
from mvdust3r_jax.losses import Totals, count_totals, global_sum, known_depth, true_pointmaps
from mvdust3r_jax.metrics import point_errors
from mvdust3r_jax.objective import ObjectiveConfig, total_loss
from mvdust3r_jax.optimizer import OptimizerConfig, frozen_mask, learning_rate, make_optimizer
from mvdust3r_jax.types import Batch

Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
class TrainState:
    """All that a step reads and writes.

    step: batches seen, skipped ones too. average: moving average of the parameters, {} when off.
    skipped, skipped_in_row: steps whose loss or gradient was not finite. rng: seed of the run's
    randomness; step k uses ``fold_in(rng, k)``, so nothing else need be remembered.
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
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        average=jax.tree.map(jnp.copy, params) if config.average_decay else {},
        skipped=zero,
        skipped_in_row=zero,
        rng=jax.random.key_data(jax.random.key(seed)),
    )


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


def batch_totals(objective: ObjectiveConfig, batch: Batch, axis_name: str | None) -> Totals:
    """What the objective's means divide by: pooled over all devices and all parts of the batch."""
    num_inputs = batch.images.shape[1] - objective.num_targets
    return count_totals(batch, min(objective.num_refs, num_inputs), num_inputs, axis_name)


def _moving_average(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Early steps average over a tenth of the steps so far instead of over 1 / (1 - decay)."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)


def _check_batch_norm(model: nn.Module, axis_name: str | None) -> None:
    """Batch statistics of one chip's samples alone would be wrong without any sign of it."""
    config = model.config
    if config.skip and config.bn_axis_name != axis_name:
        raise ValueError(
            f"the batch is spread over the axis {axis_name!r}, but the model averages its batch "
            f"statistics over {config.bn_axis_name!r}; set ModelConfig.bn_axis_name"
        )


def make_train_step(
    model: nn.Module,
    optimizer_config: OptimizerConfig,
    objective: ObjectiveConfig,
    config: StepConfig,
    params: Any,
    *,
    perceptual: dict | None = None,
    axis_name: str | None = None,
    mesh: Mesh | None = None,
) -> tuple[optax.GradientTransformation, Callable[[TrainState, Batch], tuple[TrainState, Metrics]]]:
    """The optimizer and ``step(state, batch) -> (state, metrics)``.

    ``params`` (arrays or shapes) only tell the paths. ``perceptual`` are LPIPS weights, None when
    that term is off. ``axis_name`` (under ``pmap``) or ``mesh`` (under ``jit``) say how the batch
    is spread; neither for one device. ValueError if the model's batch norm is made for another.
    """
    optimizer = make_optimizer(optimizer_config, params)
    frozen = frozen_mask(params, optimizer_config.freeze)
    axis_name = axis_name if mesh is None else parallel.AXIS
    _check_batch_norm(model, axis_name)

    def loss_and_stats(params: Any, batch_stats: Any, batch: Batch, rest: tuple[Array, Totals]):
        # What is frozen needs no backward pass at all.
        params = jax.tree.map(lambda p, f: jax.lax.stop_gradient(p) if f else p, params, frozen)
        num_inputs = batch.images.shape[1] - objective.num_targets
        images = batch.images[:, :num_inputs]
        prediction, updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images if mesh is None else parallel.place_views(images, mesh),
            num_refs=min(objective.num_refs, num_inputs),
            all_paths=True,
            train=True,
            mutable=["batch_stats"],
        )
        prediction = prediction if mesh is None else parallel.join_views(prediction)
        key, totals = rest
        loss, terms = total_loss(
            objective, prediction, batch, key, perceptual=perceptual, totals=totals
        )
        return loss, (updated.get("batch_stats", {}), {"loss": loss, **terms})

    def gradient(params: Any, batch_stats: Any, batch: Batch, rest: tuple[Array, Totals]):
        grads, out = jax.grad(loss_and_stats, has_aux=True)(params, batch_stats, batch, rest)
        return (grads if mesh is None else parallel.sum_and_cut(grads, mesh)), out

    def accumulate(variables: tuple[Any, Any], batch: Batch, key: Array):
        """This chip's part of the gradient, batch statistics and its shares of the terms."""
        params, batch_stats = variables
        # Means are over the whole batch, and all parts render the same paths and views: the
        # gradient does not depend on how the batch is cut.
        rest = key, batch_totals(objective, batch, axis_name)
        if config.accumulation == 1:
            return gradient(params, batch_stats, batch, rest)
        parts = split_micro_batches(batch, config.accumulation)

        def one(carry, part):
            total, stats = carry
            grads, (stats, terms) = gradient(params, stats, part, rest)
            return (jax.tree.map(jnp.add, total, grads), stats), terms

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(gradient, params, batch_stats, first, rest)[0]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (total, stats), terms = jax.lax.scan(one, (zeros, batch_stats), parts)
        return total, (stats, jax.tree.map(lambda t: t.sum(0), terms))

    def on_one_chip(variables: tuple[Any, Any], batch: Batch, key: Array):
        grads, (batch_stats, terms) = accumulate(variables, batch, key)
        if axis_name is not None:
            batch_stats = jax.lax.pmean(batch_stats, axis_name)
        return grads, (batch_stats, global_sum(terms, axis_name))

    def of_all_chips(variables: tuple[Any, Any], batch: Batch, key: Array):
        """Gradient, batch statistics and terms of the whole batch."""
        if mesh is not None:
            return parallel.on_shards(on_one_chip, mesh, like=variables[0])(variables, batch, key)
        grads, rest = on_one_chip(variables, batch, key)
        return global_sum(grads, axis_name), rest

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One update; a step that is not finite changes nothing but the counters."""
        key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
        variables = state.params, state.batch_stats
        grads, (batch_stats, metrics) = of_all_chips(variables, batch, key)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["learning_rate"] = learning_rate(optimizer_config, state.step - state.skipped)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if config.average_decay:
            average = _moving_average(average, params, config.average_decay, state.step)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

        bad = jnp.where(finite, 0, 1)
        metrics["skipped"] = (state.skipped + bad).astype(jnp.float32)
        state = state.replace(
            step=state.step + 1,
            params=keep(params, state.params),
            batch_stats=keep(batch_stats, state.batch_stats),
            opt_state=keep(opt_state, state.opt_state),
            average=keep(average, state.average),
            skipped=state.skipped + bad,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        )
        metrics["skipped_in_row"] = state.skipped_in_row.astype(jnp.float32)
        return state, metrics

    return optimizer, step


def make_eval_step(
    model: nn.Module,
    objective: ObjectiveConfig,
    *,
    perceptual: dict | None = None,
    axis_name: str | None = None,
    mesh: Mesh | None = None,
    parts: int = 1,
) -> Callable[[TrainState, Batch], Metrics]:
    """``evaluate(state, batch) -> metrics``: the same terms with averaged weights and statistics.

    The parameters themselves are used where no average is kept. ``nd`` is the normalised distance
    of path 0 (see ``metrics``), over the samples that have any depth. Each device computes its
    samples in ``parts``, one after the other, as the training step does.
    """
    axis_name = axis_name if mesh is None else parallel.AXIS

    def of_part(variables: dict, batch: Batch, key: Array, totals: Totals) -> dict[str, Array]:
        """Shares of the terms; sum and number of the normalised distances."""
        num_inputs = batch.images.shape[1] - objective.num_targets
        prediction = model.apply(
            variables,
            batch.images[:, :num_inputs],
            num_refs=min(objective.num_refs, num_inputs),
            all_paths=True,
        )
        loss, terms = total_loss(
            objective, prediction, batch, key, perceptual=perceptual, totals=totals
        )
        first = jax.tree.map(lambda x: x[:, 0], prediction)
        truth = true_pointmaps(batch, 1)[:, 0, :num_inputs]
        nd = point_errors(first.points, truth, known_depth(batch)[:, :num_inputs]).nd
        counted = jnp.isfinite(nd)
        sums = {"nd": jnp.where(counted, nd, 0.0).sum(), "counted": counted.sum()}
        return {"loss": loss, **terms, **sums}

    def on_one_chip(variables: dict, batch: Batch, key: Array) -> tuple[dict, Metrics]:
        whole = batch_totals(objective, batch, axis_name)
        # A part is at least one sample: sets to evaluate on may have smaller batches.
        micro_batches = split_micro_batches(batch, math.gcd(parts, batch.images.shape[0]))
        shares = jax.lax.map(lambda part: of_part(variables, part, key, whole), micro_batches)
        sums = global_sum(jax.tree.map(lambda x: x.sum(0), shares), axis_name)
        count = sums.pop("counted")
        return {}, sums | {"nd": sums["nd"] / count}

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        run = on_one_chip if mesh is None else parallel.on_shards(on_one_chip, mesh)
        variables = {"params": state.average or state.params, "batch_stats": state.batch_stats}
        return run(variables, batch, jax.random.key(0))[1]

    return evaluate
