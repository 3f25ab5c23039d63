"""What runs on GPUs and TPUs alone: other branches of the same functions, and lowering for them.

`jax.lax.platform_dependent` keeps one branch a platform. The branches of accelerators are forced
here on the CPU and compared with the same golden numbers as the CPU's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mvdust3r_jax import MVDust3r
from mvdust3r_jax.splat import rasterize
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig
from mvdust3r_jax.training.run import initial_state
from mvdust3r_jax.training.state import StepConfig
from mvdust3r_jax.training.step import make_recipe, train_step
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights import port
from tests import golden_networks
from tests.splat import golden_test

PLATFORMS = ("cuda", "rocm", "tpu")


@pytest.fixture
def as_on_accelerators(monkeypatch):
    """Chooses every accelerator's branch; the number of choices is counted."""
    chosen = []

    def default_alone(*arguments, default, **branches):
        chosen.append(branches)
        return default(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", default_alone)
    jax.clear_caches()
    yield chosen
    jax.clear_caches()


@pytest.mark.parametrize("name", ["mvdp_3views_2refs_sh1", "dust3r_dpt"])
def test_networks_are_right_in_the_branches_of_accelerators(as_on_accelerators, name):
    """The same golden outputs, within the same limits as the CPU's branches."""
    golden, state, config, images = golden_networks.load(name)
    variables = port.torch_to_flax(state, config)
    refs = golden_networks.num_refs(golden)
    apply = functools.partial(MVDust3r(config).apply, num_refs=refs, all_paths=True)
    got = golden_networks.outputs(jax.jit(apply)(variables, images), pair="cfg_nv" not in golden)
    limit = 1e-4 if config.head == "dpt" else 1e-5
    assert max(error for _, error in golden_networks.relative_errors(got, golden)) <= limit
    assert not config.skip or as_on_accelerators


@pytest.mark.parametrize("name", ["s3_sh1", "s4_hard_ties_quats"])
def test_rasterizer_is_right_in_the_branches_of_accelerators(as_on_accelerators, name):
    """Images, gradients, radii and counts of golden scenes."""
    golden_test.test_golden_scene(name)
    assert len(as_on_accelerators) >= 4


def test_gradients_of_layers_are_right_in_the_branches_of_accelerators(as_on_accelerators):
    """The kernel's gradient of a dense layer, against NumPy."""
    from mvdust3r_jax.models.linear import token_product

    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 5, 3)), rng.standard_normal((3, 4))
    x, kernel = (jnp.asarray(a, jnp.float32) for a in (x, kernel))
    got = jax.grad(lambda k: (token_product(x, k) ** 2).sum())(kernel)
    flat = np.asarray(x).reshape(-1, 3)
    np.testing.assert_allclose(got, 2 * flat.T @ (flat @ np.asarray(kernel)), rtol=1e-5)
    assert len(as_on_accelerators) == 1


# --- Lowering -------------------------------------------------------------------------------------


def lowered(function, *arguments) -> str:
    """The program for all accelerators together; an operation that one lacks is an error."""
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def tiny_network():
    """Config and shapes of variables of a golden network with all kinds of layers."""
    _, state, config, _ = golden_networks.load("mvdp_3views_2refs_sh1")
    return config, port.torch_to_flax(state, config)


def test_forward_pass_lowers_for_gpus_and_tpus():
    """In float32 and bfloat16 programs alike; the network's branches are all in it."""
    config, variables = tiny_network()
    images = jax.ShapeDtypeStruct((1, 3, 32, 32, 3), jnp.float32)
    apply = functools.partial(MVDust3r(config).apply, num_refs=2)
    assert "stablehlo.convolution" in lowered(apply, variables, images)


def test_rasterizer_lowers_for_gpus_and_tpus():
    """Forward and backward."""
    shapes = [(64, 3), (64, 4), (64, 3), (64,), (64, 3), (2, 4, 4), (2, 3, 3)]

    def loss(*arrays):
        return jnp.mean(rasterize(*arrays, 32, 32)[0] ** 2)

    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert "stablehlo.sort" in lowered(jax.grad(loss, argnums=(0, 1, 2, 3)), *arrays)


def test_training_step_lowers_for_gpus_and_tpus():
    """With rendering, so with everything that a step has but LPIPS."""
    config, variables = tiny_network()
    objective = ObjectiveConfig(
        num_refs=2, num_targets=1, weights={"confidence": 1.0, "rgb": 1.0}, sh_degree=1
    )
    optimizer = OptimizerConfig(total_steps=10, warmup_steps=1)
    recipe = make_recipe(MVDust3r(config), optimizer, objective, StepConfig(), variables["params"])
    state = jax.eval_shape(functools.partial(initial_state, recipe, seed=0), variables)
    shapes = ((32, 32, 3), (32, 32), (4, 4), (3, 3))
    batch = Batch(*(jax.ShapeDtypeStruct((1, 4, *shape), jnp.float32) for shape in shapes))
    text = lowered(functools.partial(train_step, recipe=recipe), state, batch)
    assert "stablehlo.sort" in text
