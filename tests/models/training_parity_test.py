"""Parity of gradients with those of the published networks, and of products in bfloat16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import MVDust3r
from mvdust3r_jax.weights import port
from tests import golden_networks


@pytest.mark.parametrize("remat", [False, "dots_with_no_batch_dims_saveable"])
def test_gradient_parity(remat):
    """Gradients of a weighted sum of all outputs: 1e-4 of each tensor's largest entry or norm."""
    golden, state, config, images = golden_networks.load("grads_mvdp_3views_2refs")
    config = dataclasses.replace(config, remat=remat)
    model, refs = MVDust3r(config), golden_networks.num_refs(golden)
    rs = np.random.RandomState(int(golden["cfg_seed"]) + 1)

    def loss(params):
        prediction = model.apply(
            {"params": params}, images, num_refs=refs, all_paths=True, train=True
        )
        total = 0.0
        for name, array in golden_networks.outputs(prediction, pair=False).items():
            array = array[..., None] if array.ndim == 5 else array
            weight = rs.standard_normal(array.shape) * (0.01 if name in ("pts3d", "conf") else 0.1)
            total += (weight.astype(np.float32) * array).sum()
        return total

    variables = port.torch_to_flax(state, config)
    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert abs(value - golden["loss"]) <= 1e-4 * abs(golden["loss"])
    grads = port.flax_to_torch({"params": grads}, config)
    for name, norm in zip(golden["grad_names"], golden["grad_norms"], strict=True):
        assert abs(np.linalg.norm(grads[name]) - norm) <= 1e-4 * norm, name
    for name in (n for n in golden if n.startswith("grad/")):
        error = np.abs(grads[name.removeprefix("grad/")] - golden[name]).max()
        assert error <= 1e-4 * np.abs(golden[name]).max(), name


@pytest.mark.parametrize("name", ["mvdp_3views_2refs_sh1"])
def test_bfloat16_points(name):
    """Matrix products in bfloat16 move the points by at most 3e-2 of the largest."""
    golden, state, config, images = golden_networks.load(name)
    config = dataclasses.replace(config, dtype="bfloat16")
    variables = port.torch_to_flax(state, config)
    refs = golden_networks.num_refs(golden)
    prediction = golden_networks.all_paths(config, variables, images, num_refs=refs)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(prediction))
    got = golden_networks.outputs(prediction, pair="cfg_nv" not in golden)
    assert dict(golden_networks.relative_errors(got, golden))["pts3d"] <= 3e-2
