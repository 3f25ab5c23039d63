"""One training step: accumulation, freezing, averaging, and steps that are not finite."""

import dataclasses
import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from data.box import box_views
from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.training.objective import total_loss
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig, learning_rate
from mvdust3r_jax.training.run import initial_state
from mvdust3r_jax.training.state import StepConfig, split_micro_batches
from mvdust3r_jax.training.step import accumulate, evaluate_step, make_recipe, train_step
from mvdust3r_jax.types import Prediction
from tests.random_networks import random_variables

# Two paths, as in training; without cross-reference blocks, which are a third of its compilation.
MODEL = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussians=False)
OBJECTIVE = ObjectiveConfig(num_refs=2, num_targets=1)
OPTIMIZER = OptimizerConfig(peak_lr=1e-2, total_steps=100)
# With an average, also where it does not matter: one program less.
AVERAGED = StepConfig(average_decay=0.5)


def batch_of(size=4, seed=0):
    return jax.device_put(box_views(np.random.default_rng(seed), size, 4, 16, 16))


@functools.cache
def variables():
    return random_variables(MODEL)


def recipe_of(optimizer=OPTIMIZER, config=AVERAGED):
    return make_recipe(MVDust3r(MODEL), optimizer, OBJECTIVE, config, variables()["params"])


@functools.cache
def build(optimizer=OPTIMIZER):
    """Initial state and the compiled step."""
    recipe = recipe_of(optimizer)
    state = initial_state(recipe, variables(), seed=0)
    return state, jax.jit(partial(train_step, recipe=recipe))


def differences(tree_1, tree_2):
    leaves = (map(np.asarray, jax.tree.leaves(tree)) for tree in (tree_1, tree_2))
    return max(np.abs(a - b).max() for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_loss_falls_on_a_batch_seen_again_and_again(name):
    """Thirty steps on one batch lower the regression error by a third."""
    state, step = build(dataclasses.replace(OPTIMIZER, name=name))
    batch, errors = batch_of(), []
    for _ in range(30):
        state, metrics = step(state, batch)
        errors.append(float(metrics["regression"]))
    assert errors[-1] < 0.67 * errors[0]
    assert int(state.step) == 30


def with_holes(batch, seed=0):
    """Depth unknown in a share of the pixels that differs from sample to sample."""
    rng = np.random.default_rng(seed)
    holes = rng.random(batch.depth_m.shape) < rng.random((len(batch.depth_m), 1, 1, 1))
    return batch.replace(depth_m=jnp.asarray(np.where(holes, 0.0, batch.depth_m)))


@pytest.mark.parametrize("parts", [2, 4])
def test_any_split_of_a_batch_gives_the_same_step(parts):
    """Micro-batches with other numbers of valid pixels: the same terms and gradients as at once."""
    batch = with_holes(batch_of())
    counts = (np.asarray(batch.depth_m) > 0).sum(axis=(1, 2, 3))
    assert counts.max() > 2 * counts.min(), "the parts must differ"
    (once, (_, expected)), (split, (_, terms)) = of_all_parts(1), of_all_parts(parts)
    for name in expected:
        np.testing.assert_allclose(terms[name], expected[name], rtol=1e-4, err_msg=name)
    for a, b in zip(jax.tree.leaves(split), jax.tree.leaves(once), strict=True):
        # Sums of another order: relative to the array, whose small entries are differences.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@functools.cache
def of_all_parts(parts):
    """Gradients, batch statistics and terms of a batch that is split into so many."""
    recipe = recipe_of(config=StepConfig(accumulation=parts))
    given = variables()["params"], {}, with_holes(batch_of()), jax.random.key(5)
    return jax.device_get(jax.jit(partial(accumulate, recipe=recipe))(*given))


class OneNumber:
    """A network in name only."""

    def apply(self, variables, images, **_):
        return Prediction(variables["params"]["factor"] * images, images[..., 0]), {}


def test_all_parts_draw_the_same(monkeypatch):
    """What is drawn at random, such as the views to render, is that of the whole batch."""

    def drawn(config, prediction, batch, key, **_):
        return prediction.points.mean(), {"drawn": jax.random.uniform(key)}

    monkeypatch.setattr("mvdust3r_jax.training.step.total_loss", drawn)
    terms, given = [], ({"factor": jnp.float32(2)}, {}, batch_of(), jax.random.key(5))
    for parts in (1, 2):
        recipe = recipe_of(config=StepConfig(accumulation=parts))
        recipe = dataclasses.replace(recipe, model=OneNumber(), frozen={"factor": False})
        terms.append(jax.jit(partial(accumulate, recipe=recipe))(*given)[1][1])
    # Terms are shares, summed over the parts.
    np.testing.assert_allclose(terms[1]["drawn"], 2 * terms[0]["drawn"], rtol=1e-6)


def test_evaluation_in_parts_is_that_of_the_whole_batch():
    """As many micro-batches as training has, the same numbers."""
    batch, results = with_holes(batch_of()), []
    for parts in (1, 2):
        recipe = recipe_of(config=StepConfig(accumulation=parts))
        state = initial_state(recipe, variables(), seed=0)
        results.append(jax.jit(partial(evaluate_step, recipe=recipe))(state, batch))
    for name in results[0]:
        np.testing.assert_allclose(results[1][name], results[0][name], rtol=1e-4, err_msg=name)


def test_micro_batches_do_not_depend_on_how_the_batch_is_spread():
    """Each device's part k holds the samples i with i % parts == k."""
    batch = jax.tree.map(lambda x: np.arange(8.0).reshape(8, *(1,) * (x.ndim - 1)), batch_of(1))
    whole = split_micro_batches(batch, 2).images[:, :, 0, 0, 0, 0]
    halves = [
        split_micro_batches(jax.tree.map(lambda x, h=h: x[4 * h : 4 * h + 4], batch), 2)
        for h in (0, 1)
    ]
    joined = np.concatenate([h.images[:, :, 0, 0, 0, 0] for h in halves], axis=1)
    np.testing.assert_array_equal(whole, joined)


def test_uneven_micro_batches_are_refused():
    """The batch and the number of parts are quoted."""
    with pytest.raises(ValueError, match="batch of 4 .* into 3"):
        split_micro_batches(batch_of(), 3)


class Normed(nn.Module):
    """A network in name only, with batch statistics, and other points on every path."""

    config: Any = MODEL

    @nn.compact
    def __call__(self, images, num_refs=1, all_paths=False, train=False):
        norm = nn.BatchNorm(not train, momentum=0.9, use_fast_variance=False, name="norm")
        x = nn.Dense(3)(norm(images))
        points = jnp.stack([jnp.roll(x, r, axis=-1) for r in range(num_refs)], axis=1)
        prediction = Prediction(points, jnp.exp(0.1 * points[..., 0] ** 2))
        return prediction if all_paths else jax.tree.map(lambda p: p[:, 0], prediction)


@functools.cache
def normed(parts=1):
    """State before the first step of `Normed`, whose variables are all drawn, and its recipe."""
    rng, images = np.random.default_rng(7), np.zeros((1, 2, 2, 2, 3), np.float32)
    shapes = jax.eval_shape(Normed().init, jax.random.key(0), images)
    drawn = jax.tree.map(lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), shapes)
    config = StepConfig(accumulation=parts, average_decay=0.5)
    recipe = make_recipe(Normed(), OPTIMIZER, OBJECTIVE, config, drawn["params"])
    return initial_state(recipe, jax.device_put(drawn), seed=3), recipe


@functools.cache
def normed_step(parts=1):
    """`normed`'s state and its compiled step."""
    state, recipe = normed(parts)
    return state, jax.jit(partial(train_step, recipe=recipe))


@pytest.mark.parametrize("parts", [1, 2])
def test_batch_statistics_move_a_tenth_of_the_way_with_every_micro_batch(parts):
    """One after the other, each toward mean and variance of its own input views."""
    state, step = normed_step(parts)
    expected, found = state.batch_stats["norm"], step(state, batch_of())[0].batch_stats["norm"]
    for part in range(parts):
        seen = np.asarray(batch_of().images)[part::parts, :3].reshape(-1, 3)
        of_part = {"mean": seen.mean(0), "var": seen.var(0)}
        expected = {name: 0.9 * expected[name] + 0.1 * of_part[name] for name in of_part}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_a_step_and_an_evaluation_are_of_all_paths_and_of_known_depth():
    """Terms of both are those of a separate forward pass; ND is path 0's, where depth is known."""
    batch = with_holes(batch_of())
    empty = np.array([1, 1, 0, 1], np.float32).reshape(4, 1, 1, 1)
    batch = batch.replace(depth_m=batch.depth_m * empty)
    (state, step), (_, recipe) = normed_step(), normed()
    evaluated = jax.jit(partial(evaluate_step, recipe=recipe))(state, batch)

    @partial(jax.jit, static_argnames="train")
    def by_hand(train):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        prediction, _ = Normed().apply(
            *(variables, batch.images[:, :3], 2, True, train), mutable=["batch_stats"]
        )
        valid, truth = known_depth(batch)[:, :3], true_pointmaps(batch, 1)[:, 0, :3]
        nd = point_errors(prediction.points[:, 0], truth, valid).nd
        return total_loss(OBJECTIVE, prediction, batch, jax.random.key(0))[1], nd

    (trained, _), (terms, nd) = by_hand(True), by_hand(False)
    for found, expected in ((step(state, batch)[1], trained), (evaluated, terms)):
        for name in ("confidence", "regression"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    assert float(evaluated["samples"]) == 3
    np.testing.assert_allclose(evaluated["nd"], np.asarray(nd)[[0, 1, 3]].mean(), rtol=1e-5)


def test_every_step_draws_anew_from_the_runs_seed(monkeypatch):
    """Step k has the key ``fold_in(key(seed), k)``."""

    def drawn(config, prediction, batch, key, **_):
        return prediction.points.mean(), {"drawn": jax.random.uniform(key)}

    monkeypatch.setattr("mvdust3r_jax.training.step.total_loss", drawn)
    state, recipe = normed()
    step = jax.jit(lambda state, batch: train_step(state, batch, recipe=recipe)[1]["drawn"])
    for k in (0, 1):
        key = jax.random.fold_in(jax.random.key(3), k)
        assert step(state.replace(step=jnp.int32(k)), batch_of()) == jax.random.uniform(key)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters():
    """Parameters, statistics, moments and average stay; the next good step goes on, at its rate."""
    state, step = normed_step()
    good = batch_of()
    images = np.array(good.images)
    images[0, 0, 0, 0, 0] = np.nan
    bad = good.replace(images=jnp.asarray(images))
    state, _ = step(state, good)
    skipped, metrics = step(state, bad)
    for name in ("params", "batch_stats", "opt_state", "average"):
        assert differences(getattr(state, name), getattr(skipped, name)) == 0
    assert (int(skipped.skipped), int(skipped.skipped_in_row), int(skipped.step)) == (1, 1, 2)
    assert float(metrics["skipped_in_row"]) == 1
    after, metrics = step(skipped, good)
    assert (int(after.skipped), int(after.skipped_in_row)) == (1, 0)
    assert differences(after.params, state.params) > 0
    assert differences(after.batch_stats, state.batch_stats) > 0
    assert np.isfinite(float(metrics["loss"]))
    # The third step, of which one was skipped.
    np.testing.assert_allclose(metrics["learning_rate"], learning_rate(OPTIMIZER, 1), rtol=1e-6)


def test_an_update_that_is_not_finite_changes_no_parameter():
    """Loss and gradient are finite, the moments are not: the step is skipped, and shows why."""
    state, step = build()
    lost = state.replace(
        opt_state=jax.tree.map(
            lambda x: x if x.ndim == 0 else jnp.asarray(np.full(x.shape, np.nan, x.dtype)),
            state.opt_state,
        )
    )
    skipped, metrics = step(lost, batch_of())
    assert np.isfinite(float(metrics["grad_norm"])) and np.isnan(float(metrics["update_norm"]))
    assert differences(state.params, skipped.params) == 0
    assert int(skipped.skipped) == 1


def test_no_known_depth_at_all_is_a_harmless_step():
    """Without any valid pixel loss and gradient are finite (0), and it shows."""
    state, step = build()
    batch = batch_of()
    batch = batch.replace(depth_m=jnp.asarray(np.zeros(batch.depth_m.shape, np.float32)))
    _, metrics = step(state, batch)
    assert float(metrics["loss"]) == 0
    assert float(metrics["grad_norm"]) == 0
    assert float(metrics["arrays_without_gradient"]) == len(jax.tree.leaves(state.params))


def test_freezing_stops_the_gradient_too():
    """The gradient norm is that of the free parameters alone, and frozen ones stay."""
    free, step = build()
    frozen, frozen_step = build(dataclasses.replace(OPTIMIZER, freeze=("encoder/.*",)))
    batch = batch_of()
    (_, all_metrics), (state, metrics) = step(free, batch), frozen_step(frozen, batch)
    assert float(metrics["grad_norm"]) < float(all_metrics["grad_norm"])
    assert float(metrics["arrays_without_gradient"]) == 0  # frozen ones are not counted
    assert differences(state.params["encoder"], frozen.params["encoder"]) == 0
    assert differences(state.params["decoder"], frozen.params["decoder"]) > 0


def test_average_follows_the_parameters_and_is_what_is_evaluated():
    """The average lies between old and new parameters; evaluation reads it."""
    state, step = build()
    batch = batch_of()
    # Step k averages over a tenth of the steps so far, decay (1 + k) / (10 + k), at most as set.
    for k, decay in ((50, 0.5), (0, 0.1)):
        new, _ = step(state.replace(step=jnp.int32(k)), batch)
        expected = jax.tree.map(
            lambda p, q, d=decay: d * np.asarray(p) + (1 - d) * np.asarray(q),
            *(state.params, new.params),
        )
        assert differences(new.average, expected) < 1e-6
    evaluate = jax.jit(partial(evaluate_step, recipe=recipe_of()))
    by_average = evaluate(new, batch)["loss"]
    swapped = new.replace(params=new.average, average={})
    np.testing.assert_allclose(by_average, evaluate(swapped, batch)["loss"], rtol=1e-6)


def test_bad_settings_are_refused():
    """Accumulation below one and decays outside [0, 1) are errors."""
    with pytest.raises(ValueError, match="accumulation"):
        StepConfig(accumulation=0)
    with pytest.raises(ValueError, match="average_decay"):
        StepConfig(average_decay=1.0)
