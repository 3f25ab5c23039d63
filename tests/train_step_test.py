"""One training step: accumulation, freezing, averaging, and steps that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.box import box_views
from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.objective import ObjectiveConfig
from mvdust3r_jax.optimizer import OptimizerConfig
from mvdust3r_jax.train_step import (
    StepConfig,
    init_state,
    make_eval_step,
    make_train_step,
    split_micro_batches,
)

MODEL = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussians=False, cross_ref=True)
OBJECTIVE = ObjectiveConfig(num_refs=2, num_targets=1)
OPTIMIZER = OptimizerConfig(peak_lr=1e-2, total_steps=100)
PLAIN = StepConfig()


def batch_of(size=4, seed=0):
    return jax.tree.map(jnp.asarray, box_views(np.random.default_rng(seed), size, 4, 16, 16))


def build(optimizer=OPTIMIZER, config=PLAIN, objective=OBJECTIVE, network=MODEL):
    """Initial state and the compiled step."""
    model = MVDust3r(network)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2, 16, 16, 3)), 1, True)
    rule, step = make_train_step(model, optimizer, objective, config, variables["params"])
    return init_state(variables, rule, config, seed=0), jax.jit(step)


def differences(tree_1, tree_2):
    return max(
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(tree_1), jax.tree.leaves(tree_2), strict=True)
    )


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


def batch_with_holes():
    """Four samples of which nearly all, most, few and no pixels are known."""
    batch, rng = batch_of(), np.random.default_rng(1)
    unknown = rng.random(batch.depth_m.shape) < np.array([0.05, 0.3, 0.9, 1.0])[:, None, None, None]
    return batch.replace(depth_m=jnp.where(unknown, 0, batch.depth_m))


def assert_close(metrics, expected):
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("render", [False, True], ids=["points", "rendered"])
def test_any_split_of_a_batch_gives_the_gradient_of_the_whole(render):
    """Also with different numbers of valid pixels, and where only some views are rendered."""
    options = {}
    if render:
        drawn = dict(rgb=1.0, scale_clip=1.0, render_paths=1, render_views=1)
        options["objective"] = dataclasses.replace(OBJECTIVE, **drawn)
        options["network"] = dataclasses.replace(MODEL, gaussians=True, gaussian_hidden=16)
    batch = batch_with_holes()
    state, step = build(**options)
    whole, expected = step(state, batch)
    _, step = build(config=StepConfig(accumulation=2 if render else 4), **options)
    split, metrics = step(state, batch)
    assert_close(metrics, expected)
    # Adam's first step is lr * sign(gradient): compare the moments, which are the gradients.
    assert differences(whole.opt_state, split.opt_state) < 1e-4


def test_evaluation_in_parts_gives_the_numbers_of_the_whole():
    """Of two parts: all that divides both the six asked for and the four samples."""
    state, _ = build()
    model, batch = MVDust3r(MODEL), batch_with_holes()
    expected = jax.jit(make_eval_step(model, OBJECTIVE))(state, batch)
    assert np.isfinite(expected["nd"])
    assert_close(jax.jit(make_eval_step(model, OBJECTIVE, parts=6))(state, batch), expected)


def test_micro_batches_do_not_depend_on_how_the_batch_is_spread():
    """Each device's part k holds the samples i with i % parts == k."""
    batch = jax.tree.map(lambda x: jnp.arange(8.0).reshape(8, *(1,) * (x.ndim - 1)), batch_of(1))
    whole = split_micro_batches(batch, 2).images[:, :, 0, 0, 0, 0]
    halves = [
        split_micro_batches(jax.tree.map(lambda x, h=h: x[4 * h : 4 * h + 4], batch), 2)
        for h in (0, 1)
    ]
    joined = jnp.concatenate([h.images[:, :, 0, 0, 0, 0] for h in halves], axis=1)
    np.testing.assert_array_equal(whole, joined)


def test_uneven_micro_batches_are_refused():
    """The batch and the number of parts are quoted."""
    with pytest.raises(ValueError, match="batch of 4 .* into 3"):
        split_micro_batches(batch_of(), 3)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters():
    """Parameters, moments and average stay; the counters tell; the next good step goes on."""
    state, step = build(config=StepConfig(average_decay=0.9))
    good = batch_of()
    bad = good.replace(images=good.images.at[0, 0, 0, 0, 0].set(jnp.nan))
    state, _ = step(state, good)
    skipped, metrics = step(state, bad)
    for name in ("params", "opt_state", "average"):
        assert differences(getattr(state, name), getattr(skipped, name)) == 0
    assert (int(skipped.skipped), int(skipped.skipped_in_row), int(skipped.step)) == (1, 1, 2)
    assert float(metrics["skipped_in_row"]) == 1
    after, metrics = step(skipped, good)
    assert (int(after.skipped), int(after.skipped_in_row)) == (1, 0)
    assert differences(after.params, state.params) > 0
    assert np.isfinite(float(metrics["loss"]))


def test_no_known_depth_at_all_is_a_harmless_step():
    """Without any valid pixel loss and gradient are finite (0)."""
    state, step = build()
    batch = batch_of()
    batch = batch.replace(depth_m=jnp.zeros_like(batch.depth_m))
    _, metrics = step(state, batch)
    assert float(metrics["loss"]) == 0
    assert float(metrics["grad_norm"]) == 0


def test_freezing_stops_the_gradient_too():
    """The gradient norm is that of the free parameters alone, and frozen ones stay."""
    free, step = build()
    frozen, frozen_step = build(dataclasses.replace(OPTIMIZER, freeze=("encoder/.*",)))
    batch = batch_of()
    (_, all_metrics), (state, metrics) = step(free, batch), frozen_step(frozen, batch)
    assert float(metrics["grad_norm"]) < float(all_metrics["grad_norm"])
    assert differences(state.params["encoder"], frozen.params["encoder"]) == 0
    assert differences(state.params["decoder"], frozen.params["decoder"]) > 0


def test_average_follows_the_parameters_and_is_what_is_evaluated():
    """The average lies between old and new parameters; evaluation reads it."""
    state, step = build(config=StepConfig(average_decay=0.5))
    batch = batch_of()
    new, _ = step(state, batch)
    # Step 0 averages over the first tenth: decay (1 + 0) / (10 + 0).
    expected = jax.tree.map(lambda p, q: 0.1 * p + 0.9 * q, state.params, new.params)
    assert differences(new.average, expected) < 1e-6
    evaluate = jax.jit(make_eval_step(MVDust3r(MODEL), OBJECTIVE))
    by_average = evaluate(new, batch)["loss"]
    swapped = new.replace(params=new.average, average={})
    np.testing.assert_allclose(by_average, evaluate(swapped, batch)["loss"], rtol=1e-6)


def test_bad_settings_are_refused():
    """Accumulation below one and decays outside [0, 1) are errors."""
    with pytest.raises(ValueError, match="accumulation"):
        StepConfig(accumulation=0)
    with pytest.raises(ValueError, match="average_decay"):
        StepConfig(average_decay=1.0)
