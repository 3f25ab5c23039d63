"""One training step as a pure function of (state, batch), the same for every way of spreading it.

`train_step` is three functions in a row: `forward_and_loss` of a micro-batch, `accumulate` over all
of them, `apply_update`. Losses are shares of the whole batch's (see ``losses``), so gradients of
micro-batches and of chips add up to the gradient of the whole batch. A step whose loss, gradient
or update is not finite leaves everything but the counters as it was.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.training.losses import Pool, global_sum, pool_of
from mvdust3r_jax.training.objective import total_loss
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import (
    OptimizerConfig,
    frozen_mask,
    learning_rate,
    make_optimizer,
)
from mvdust3r_jax.training.parallel import OneChip
from mvdust3r_jax.training.state import StepConfig, TrainState, moving_average, split_micro_batches
from mvdust3r_jax.types import Batch, Prediction

Metrics = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step does, and what it reads besides state and batch.

    shapes: of the whole parameters. frozen: True for those that do not learn. perceptual: LPIPS
    weights, None when that term is off. spread: how the batch lies on the chips. model: MVDust3r,
    or what has its config and apply.
    """

    model: Any
    optimizer: optax.GradientTransformation
    schedule: OptimizerConfig
    objective: ObjectiveConfig
    config: StepConfig
    shapes: Any
    frozen: Any
    perceptual: dict | None
    spread: OneChip


def make_recipe(
    model: Any,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: StepConfig,
    params: Any,
    *,
    perceptual: dict | None = None,
    spread: OneChip | None = None,
) -> Recipe:
    """A recipe for a network with parameters like ``params`` (arrays or shapes; their paths count).

    Raises:
      ValueError: the model's batch statistics would not be those of the whole batch.
    """
    spread = spread or OneChip()
    if model.config.skip and model.config.bn_axis_name != spread.axis_name:
        raise ValueError(
            f"the batch is spread over the axis {spread.axis_name!r}, but the model averages its "
            f"batch statistics over {model.config.bn_axis_name!r}; set ModelConfig.bn_axis_name"
        )
    rule, frozen = make_optimizer(optimizer, params), frozen_mask(params, optimizer.freeze)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    return Recipe(model, rule, optimizer, objective, config, shapes, frozen, perceptual, spread)


# --- A step: forward and loss, accumulate, update -------------------------------------------------


def _held(parameter: Array, frozen: bool) -> Array:
    """What is frozen needs no backward pass at all."""
    return jax.lax.stop_gradient(parameter) if frozen else parameter


def forward_and_loss(
    params: Any, batch_stats: Any, batch: Batch, key: Array, pool: Pool, recipe: Recipe
) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
    """A micro-batch's share of the loss, the batch statistics after it, its shares of all terms."""
    held = jax.tree.map(_held, params, recipe.frozen)
    variables = {"params": held, "batch_stats": batch_stats}
    num_inputs = batch.images.shape[1] - recipe.objective.num_targets
    prediction, updated = recipe.model.apply(
        variables,
        recipe.spread.place_views(batch.images[:, :num_inputs]),
        num_refs=min(recipe.objective.num_refs, num_inputs),
        all_paths=True,
        train=True,
        mutable=["batch_stats"],
    )
    loss, terms = total_loss(
        recipe.objective,
        recipe.spread.join_views(prediction),
        batch,
        key,
        perceptual=recipe.perceptual,
        pool=pool,
    )
    return loss, (updated.get("batch_stats", {}), {"loss": loss, **terms})


def accumulate(
    params: Any, batch_stats: Any, batch: Batch, key: Array, recipe: Recipe
) -> tuple[Any, tuple[Any, Metrics]]:
    """On one chip: gradients summed over its micro-batches; statistics and terms of all chips.

    All draw with the same key, like the chips: what is rendered does not depend on the parts.
    """
    pool = pool_of_step(batch, recipe)

    def gradients_of(stats: Any, part: Batch):
        found, rest = jax.grad(forward_and_loss, has_aux=True)(
            params, stats, part, key, pool, recipe
        )
        return recipe.spread.sum_gradients(found, recipe.shapes), rest

    def one(carry, part):
        total, stats = carry
        found, (stats, terms) = gradients_of(stats, part)
        return (jax.tree.map(jnp.add, total, found), stats), terms

    parts = recipe.config.accumulation
    if parts == 1:
        gradients, (batch_stats, terms) = gradients_of(batch_stats, batch)
    else:
        split = split_micro_batches(batch, parts)
        shapes = jax.eval_shape(gradients_of, batch_stats, jax.tree.map(lambda x: x[0], split))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[0])
        (gradients, batch_stats), terms = jax.lax.scan(one, (zeros, batch_stats), split)
        terms = jax.tree.map(lambda t: t.sum(0), terms)
    axis_name = recipe.spread.axis_name
    if axis_name is not None:
        batch_stats = jax.lax.pmean(batch_stats, axis_name)
    return gradients, (batch_stats, global_sum(terms, axis_name))


def gradient_sizes(gradients: Any, frozen: Any) -> Metrics:
    """Norm of all gradients, and how many arrays should learn and cannot.

    What these lead to is dead, or multiplied by zero: the sum of their gradient's squares is 0.
    """
    squares = jnp.stack(jax.tree.leaves(jax.tree.map(lambda x: jnp.sum(x**2), gradients)))
    learns = ~np.array(jax.tree.leaves(frozen))
    return {
        "grad_norm": jnp.sqrt(squares.sum()),
        "arrays_without_gradient": ((squares == 0) & learns).sum().astype(jnp.float32),
    }


def apply_update(
    state: TrainState, gradients: Any, batch_stats: Any, metrics: Metrics, recipe: Recipe
) -> tuple[TrainState, Metrics]:
    """Parameters, moments and average after the step, if all of it is finite."""
    metrics |= gradient_sizes(gradients, recipe.frozen)
    metrics["learning_rate"] = learning_rate(recipe.schedule, state.step - state.skipped)
    updates, opt_state = recipe.optimizer.update(gradients, state.opt_state, state.params)
    # Of finite gradients too an update may be none: the optimizer divides, and applies a rate.
    metrics["update_norm"] = optax.tree.norm(updates)
    looked_at = (metrics[name] for name in ("loss", "grad_norm", "update_norm"))
    finite = jnp.isfinite(jnp.stack(list(looked_at))).all()
    params = optax.apply_updates(state.params, updates)
    average, decay = state.average, recipe.config.average_decay
    if decay:
        average = moving_average(average, params, decay, state.step)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    bad = jnp.where(finite, 0, 1)
    state = state.replace(
        step=state.step + 1,
        params=keep(params, state.params),
        batch_stats=keep(batch_stats, state.batch_stats),
        opt_state=keep(opt_state, state.opt_state),
        average=keep(average, state.average),
        skipped=state.skipped + bad,
        skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
    )
    counters = {"skipped": state.skipped, "skipped_in_row": state.skipped_in_row}
    return state, metrics | {k: v.astype(jnp.float32) for k, v in counters.items()}


def train_step(state: TrainState, batch: Batch, *, recipe: Recipe) -> tuple[TrainState, Metrics]:
    """One update of the state by a whole batch."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

    def on_one_chip(variables: tuple[Any, Any], batch: Batch, key: Array):
        return accumulate(*variables, batch, key, recipe)

    run = recipe.spread.on_chips(on_one_chip, like=state.params)
    gradients, (batch_stats, metrics) = run((state.params, state.batch_stats), batch, key)
    return apply_update(state, gradients, batch_stats, metrics, recipe)


def pool_of_step(batch: Batch, recipe: Recipe) -> Pool:
    """Counts of the whole batch, of which ``batch`` are this chip's samples."""
    num_inputs = batch.images.shape[1] - recipe.objective.num_targets
    num_refs = min(recipe.objective.num_refs, num_inputs)
    return pool_of(batch, num_inputs, num_refs, recipe.spread.axis_name)


# --- Evaluation -----------------------------------------------------------------------------------


def evaluate_step(state: TrainState, batch: Batch, *, recipe: Recipe) -> Metrics:
    """The same terms with averaged weights and statistics, in as many micro-batches.

    The parameters themselves are used where no average is kept. ``nd`` is the mean normalized
    distance of path 0 (see ``metrics``) over the ``samples`` that have any depth, 0 of none.
    """
    variables = {"params": state.average or state.params, "batch_stats": state.batch_stats}

    def on_one_chip(variables: dict, batch: Batch, key: Array) -> tuple[dict, Metrics]:
        pool = pool_of_step(batch, recipe)
        parts = split_micro_batches(batch, recipe.config.accumulation)
        shares = jax.lax.map(lambda part: _evaluate_part(variables, part, key, pool, recipe), parts)
        sums = jax.tree.map(lambda x: x.sum(0), shares)
        terms, (nd, counted) = global_sum(sums, recipe.spread.axis_name)
        return {}, terms | {"nd": nd / jnp.maximum(counted, 1), "samples": counted}

    return recipe.spread.on_chips(on_one_chip)(variables, batch, jax.random.key(0))[1]


def _evaluate_part(variables: dict, batch: Batch, key: Array, pool: Pool, recipe: Recipe):
    """Shares of all terms; sum and number of the samples' ND."""
    num_inputs = batch.images.shape[1] - recipe.objective.num_targets
    prediction: Prediction = recipe.model.apply(
        variables,
        batch.images[:, :num_inputs],
        num_refs=min(recipe.objective.num_refs, num_inputs),
        all_paths=True,
    )
    loss, terms = total_loss(
        recipe.objective, prediction, batch, key, perceptual=recipe.perceptual, pool=pool
    )
    truth = true_pointmaps(batch, 1)[:, 0, :num_inputs]
    known = known_depth(batch)[:, :num_inputs]
    nd = point_errors(prediction.points[:, 0], truth, known).nd
    counted = known.any((1, 2, 3))
    return {"loss": loss, **terms}, (jnp.where(counted, nd, 0.0).sum(), counted.sum())
