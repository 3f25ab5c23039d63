"""Parity of whole networks with the published ones."""

import pytest

from mvdust3r_jax.weights import port
from tests import golden_networks

FILES = sorted(f.stem for f in golden_networks.FOLDER.glob("*.npz") if "grads" not in f.stem)
# Run by `as_users_test` alone, with more effort.
AS_USERS = "mvdp_3views_2refs_sh1"


@pytest.mark.parametrize("name", [name for name in FILES if name != AS_USERS])
def test_parity(name):
    """Every output is within 1e-5 of its largest entry; 1e-4 for DPT, whose outputs reach 1e4."""
    golden, state, config, images = golden_networks.load(name)
    variables = port.torch_to_flax(state, config)
    refs = golden_networks.num_refs(golden)
    prediction = golden_networks.all_paths(config, variables, images, num_refs=refs)
    got = golden_networks.outputs(prediction, pair="cfg_nv" not in golden)
    assert {f"out_{n}" for n in got} == {n for n in golden if n.startswith("out_")}
    limit = 1e-4 if config.head == "dpt" else 1e-5
    for output, error in golden_networks.relative_errors(got, golden):
        assert error <= limit, (output, error)
