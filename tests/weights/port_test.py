"""PyTorch weights: nothing is lost and nothing is guessed."""

import dataclasses

import jax
import numpy as np
import pytest

from mvdust3r_jax.weights import port
from tests import golden_networks
from tests.weights.small_network import CONFIG, numbers

FILES = sorted(f.stem for f in golden_networks.FOLDER.glob("*.npz"))


@pytest.mark.parametrize("name", FILES)
def test_round_trip_is_exact(name):
    """PyTorch to ours and back: the same names, types and values, unused tensors included."""
    _, state, config, _ = golden_networks.load(name)
    back = port.flax_to_torch(port.torch_to_flax(state, config), config)
    assert set(back) == set(state)
    for tensor_name, array in state.items():
        assert back[tensor_name].dtype == array.dtype
        np.testing.assert_array_equal(back[tensor_name], array, err_msg=tensor_name)


def test_other_round_trip_is_exact():
    """Ours to PyTorch and back, and every parameter of the network is in the table."""
    variables = numbers(CONFIG, 0)
    again = port.torch_to_flax(port.flax_to_torch(variables, CONFIG), CONFIG)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert port.config_from_torch(port.flax_to_torch(variables, CONFIG)) == dataclasses.replace(
        CONFIG, enc_heads=1, dec_heads=1
    )


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("mvdp_3views_2refs_sh1", dict(skip=True, gaussians=True, cross_ref=True, sh_degree=1)),
        ("mvd_4views", dict(skip=True, gaussians=True, cross_ref=False, head="linear")),
        ("dust3r_dpt", dict(skip=False, gaussians=False, head="dpt", dec_depth=12, patch=16)),
    ],
)
def test_config_from_names_and_shapes(name, want):
    """Everything but head counts and the confidence's limit stands in the tensors."""
    _, state, _, _ = golden_networks.load(name)
    config = dataclasses.asdict(port.config_from_torch(state))
    assert {k: config[k] for k in want} == want and config["enc_dim"] == 64


def test_problems_are_listed_together():
    """Missing, unexpected and misshapen tensors, all in one error."""
    state = port.flax_to_torch(numbers(CONFIG, 0), CONFIG)
    del state["enc_blocks.1.attn.qkv.bias"], state["dec_norm.weight"]
    state["enc_norm.bias"] = np.zeros(7, np.float32)
    state["dec_blocks.2.mlp.fc1.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError) as error:
        port.torch_to_flax(state, CONFIG)
    for part in (
        "missing (2)", "enc_blocks.1.attn.qkv.bias", "dec_norm.weight",
        "unexpected (1)", "dec_blocks.2.mlp.fc1.bias",
        "misshapen (1)", "enc_norm.bias: expected (16,), got (7,)",
    ):  # fmt: skip
        assert part in str(error.value)


def test_incomplete_variables_are_refused():
    """Writing PyTorch weights needs exactly the network's variables."""
    variables = numbers(CONFIG, 0)
    del variables["params"]["encoder"]["norm"]["scale"]
    variables["params"]["extra"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"(?s)params/encoder/norm/scale.*params/extra"):
        port.flax_to_torch(variables, CONFIG)


def test_foreign_state_dict_is_refused():
    """What is no network of this family names what it lacks."""
    with pytest.raises(KeyError, match="patch_embed"):
        port.config_from_torch({"conv1.weight": np.zeros((1, 3, 3, 3))})


def test_networks_that_no_release_has_are_not_written_as_one():
    """The conv head and the approximate GELU have no place in PyTorch's files."""
    for fields in ({"head": "conv", "patch": 8}, {"gelu": "tanh"}):
        config = dataclasses.replace(CONFIG, **fields)
        with pytest.raises(ValueError, match="PyTorch releases have head"):
            port.flax_to_torch(numbers(config, 0), config)
