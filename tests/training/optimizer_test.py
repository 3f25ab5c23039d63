"""Rules by parameter path, the schedule, and what each update does to a parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvdust3r_jax.training.optimizer import OptimizerConfig, learning_rate, make_optimizer
from mvdust3r_jax.training.processes import RunError
from tests.compiled import normal


def ones(*shape):
    return jnp.asarray(np.ones(shape, np.float32))


PARAMS = {
    "encoder": {
        "blocks": {"fc": {"kernel": ones(3, 8, 12), "bias": ones(3, 12)}},
        "patch_embed": {"kernel": ones(6, 8), "bias": ones(8)},
        "norm": {"scale": ones(8), "bias": ones(8)},
    },
    "head": {"conv0": {"kernel": ones(3, 3, 4, 5), "bias": ones(5)}},
}


def updated(config, gradients):
    """PARAMS after one step at full learning rate."""
    optimizer = make_optimizer(config, PARAMS)

    @jax.jit
    def step(gradients):
        updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
        return optax.apply_updates(PARAMS, updates)

    return jax.device_get(step(gradients))


def test_a_run_in_which_nothing_learns_is_refused():
    """Patterns of freeze that together match every parameter."""
    with pytest.raises(RunError, match="matches every parameter"):
        make_optimizer(OptimizerConfig(freeze=("encoder/.*", "head/.*")), PARAMS)


def test_schedule_warms_up_linearly_and_ends_at_the_final_rate():
    """Linear to the peak, half a cosine to the end, constant after it."""
    config = OptimizerConfig(peak_lr=2.0, final_lr=0.5, warmup_steps=10, total_steps=110)
    rates = [float(learning_rate(config, s)) for s in (0, 5, 10, 60, 110, 500)]
    np.testing.assert_allclose(rates, [0, 1.0, 2.0, 1.25, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_decay(name):
    """With zero gradients kernels shrink by lr * decay, stacked ones too; nothing else moves."""
    config = OptimizerConfig(name=name, peak_lr=0.1, weight_decay=0.5, total_steps=10)
    new = updated(config, jax.tree.map(np.zeros_like, PARAMS))
    for path, value in jax.tree_util.tree_leaves_with_path(new):
        expected = 0.95 if path[-1].key == "kernel" else 1.0
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_both_moments_decay_as_configured():
    """AdamW's closed formula for a gradient of 1 and then none, at a constant rate."""
    config = OptimizerConfig(*("adamw", 0.1, 0.1), total_steps=10, b1=0.5, b2=0.6, weight_decay=0.0)
    optimizer = make_optimizer(config, PARAMS)

    @jax.jit
    def second():
        _, state = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
        return optimizer.update(jax.tree.map(jnp.zeros_like, PARAMS), state, PARAMS)[0]

    # Each moment is b (1 - b), over its sum of weights 1 - b^2.
    expected = -0.1 * (0.5 / 1.5) / (0.6 / 1.6) ** 0.5
    for update in jax.tree.leaves(second()):
        np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_unknown_parameter_is_an_error():
    """A parameter that no rule covers is named."""
    params = PARAMS | {"head": {"temperature": ones()}}
    with pytest.raises(ValueError, match="no rule covers the parameter 'head/temperature'"):
        make_optimizer(OptimizerConfig(), params)


def test_frozen_parameters_stay_and_have_no_moments():
    """Frozen: unchanged whatever the gradient, and not in the optimizer's state."""
    config = OptimizerConfig(peak_lr=0.1, total_steps=10, freeze=("encoder/.*",))
    new = updated(config, PARAMS)
    for value in jax.tree.leaves(new["encoder"]):
        np.testing.assert_array_equal(value, 1.0)
    assert not np.allclose(new["head"]["conv0"]["kernel"], 1.0)
    state = jax.eval_shape(make_optimizer(config, PARAMS).init, PARAMS)
    head = sum(x.size for x in jax.tree.leaves(PARAMS["head"]))
    assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 2 * head


def test_freeze_pattern_without_a_match_is_an_error():
    """A misspelled pattern must not silently train everything."""
    with pytest.raises(ValueError, match="'encodr/.*' matches no parameter"):
        make_optimizer(OptimizerConfig(freeze=("encodr/.*",)), PARAMS)


def test_muon_update_is_orthogonal_with_the_stated_size():
    """Each layer's update is near a scaled orthogonal matrix; other parameters follow AdamW."""
    config = OptimizerConfig(name="muon", peak_lr=1.0, weight_decay=0.0, total_steps=10)
    leaves, tree = jax.tree.flatten(PARAMS)
    gradients = tree.unflatten([normal(i, *x.shape) for i, x in enumerate(leaves)])
    new = updated(config, gradients)
    step = new["encoder"]["blocks"]["fc"]["kernel"] - 1
    singular = np.linalg.svd(step, compute_uv=False) / (0.2 * 12**0.5)
    # Five Newton-Schulz steps bring singular values into about 0.7..1.2.
    assert ((singular > 0.5) & (singular < 1.4)).all()
    adam = updated(OptimizerConfig(peak_lr=1.0, weight_decay=0.0, total_steps=10), gradients)
    np.testing.assert_allclose(new["head"]["conv0"]["kernel"], adam["head"]["conv0"]["kernel"])


def test_clipping_bounds_the_gradient_that_the_moments_see():
    """A clipped huge gradient leaves the same second moment as one of exactly that norm."""
    config = OptimizerConfig(clip_norm=1.0, total_steps=10)
    size = np.sqrt(sum(x.size for x in jax.tree.leaves(PARAMS)))
    optimizer = make_optimizer(config, PARAMS)

    @jax.jit
    def moments(factor):
        gradients = jax.tree.map(lambda x: factor * x, PARAMS)
        return optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)[1]

    clipped, plain = moments(1e6), moments(1 / size)
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("fields", [{"name": "sgd"}, {"warmup_steps": 5, "total_steps": 4}])
def test_bad_settings_are_refused(fields):
    """Unknown names and impossible schedules are errors."""
    with pytest.raises(ValueError, match="must"):
        OptimizerConfig(**fields)


def test_stable_schedule_decays_over_its_last_steps_only():
    """Linear to the peak, constant until the last steps, linear to the final rate, constant."""
    config = OptimizerConfig(
        peak_lr=2.0, final_lr=0.5, warmup_steps=10, total_steps=110, decay_steps=40
    )
    rates = [float(learning_rate(config, s)) for s in (5, 10, 69, 70, 90, 110, 500)]
    np.testing.assert_allclose(rates, [1.0, 2.0, 2.0, 2.0, 1.25, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("decay_steps", [0, 91])
def test_decay_must_fit_between_warm_up_and_end(decay_steps):
    """A decay that would begin within the warm-up is refused, and one of no steps."""
    with pytest.raises(ValueError, match="decay_steps must lie in 1..total_steps"):
        OptimizerConfig(warmup_steps=10, total_steps=100, decay_steps=decay_steps)
