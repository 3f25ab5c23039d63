"""PyTorch weights: nothing is lost, nothing is guessed, and a warm start says what it took."""

import dataclasses

import jax
import numpy as np
import pytest

from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.weights import port
from tests import golden_networks

FILES = sorted(f.stem for f in golden_networks.FOLDER.glob("*.npz"))
CONFIG = ModelConfig(16, 2, 2, 16, 2, 2, patch=4, gaussian_hidden=8, cross_ref=True, sh_degree=1)


def numbers(config, seed):
    rng = np.random.default_rng(seed)
    tree = abstract_variables(config)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), tree)


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


def dust3r(config):
    return dataclasses.replace(config, skip=False, gaussians=False, cross_ref=False)


def test_dust3r_starts_the_large_network():
    """All that DUSt3R has is taken; skip CNN, Gaussians and cross-reference blocks stay fresh."""
    source = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    source["mask_token"] = np.zeros((1, 1, 16), np.float32)
    fresh = numbers(CONFIG, 2)
    started, report = port.init_from(fresh, source, CONFIG)
    np.testing.assert_array_equal(
        started["params"]["decoder"]["src_blocks"]["mlp"]["fc1"]["kernel"][1],
        source["dec_blocks2.1.mlp.fc1.weight"].T,
    )
    for untouched in ("ref_skip_cnn", "src_gaussian_head"):
        a, b = started["params"][untouched], fresh["params"][untouched]
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert report.unused == ("mask_token",) and not report.copied
    fresh_parts = {"/".join(n.split("/")[1:3]) for n in report.fresh if "cross_ref" in n}
    assert fresh_parts == {"decoder/cross_ref_blocks"}
    everything = len(jax.tree.leaves(fresh))
    assert len(report.taken) + len(report.fresh) == everything
    assert "taken" in str(report) and "decoder/ref_blocks" in str(report)


def test_croco_starts_both_decoders():
    """CroCo's one decoder starts the reference and the source blocks."""
    state = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    drop = ("dec_blocks2.", "downstream_head")
    state = {n: x for n, x in state.items() if not n.startswith(drop)}
    state["prediction_head.weight"] = np.zeros((48, 16), np.float32)
    started, report = port.init_from(numbers(CONFIG, 2), state, CONFIG)
    decoder = started["params"]["decoder"]
    jax.tree.map(np.testing.assert_array_equal, decoder["ref_blocks"], decoder["src_blocks"])
    assert report.copied and all("/src_blocks/" in n for n in report.copied)
    assert report.unused == ("prediction_head.weight",)


def test_our_own_network_starts_the_plus():
    """MV-DUSt3R's variables start MV-DUSt3R+, whose cross-reference blocks stay fresh."""
    plain = dataclasses.replace(CONFIG, cross_ref=False)
    source, fresh = numbers(plain, 1), numbers(CONFIG, 2)
    started, report = port.init_from(fresh, source, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, started["batch_stats"], source["batch_stats"])
    assert all("cross_ref" in n for n in report.fresh) and report.fresh


def test_started_network_runs():
    """A warm start is a complete set of variables."""
    source = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    started, _ = port.init_from(numbers(CONFIG, 2), source, CONFIG)
    images = jax.ShapeDtypeStruct((1, 2, 8, 8, 3), np.float32)
    out = jax.eval_shape(lambda v, x: MVDust3r(CONFIG).apply(v, x), started, images)
    assert out.points.shape == (1, 2, 8, 8, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_depth": 1}, r"enc_blocks: expected 1 layers, got 2"),
        ({"enc_depth": 3}, r"missing .*\n.*enc_blocks.2"),
        ({"dec_dim": 32}, r"decoder_embed.weight: expected \(32, 16\), got \(16, 16\)"),
    ],
)
def test_another_size_is_refused(change, message):
    """Networks of other depth or width are no source, and the error says why."""
    source = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    target = dataclasses.replace(CONFIG, **change)
    with pytest.raises(ValueError, match=message):
        port.init_from(numbers(target, 2), source, target)


def test_larger_patches_do_the_same_on_means_of_pixels():
    """Twice as high and wide images and patches: the points of the means, each for 2 x 2 pixels."""
    small = dataclasses.replace(CONFIG, skip=False, cross_ref=False)
    large = dataclasses.replace(small, patch=8, head="conv", gaussians=False)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 3, 16, 24, 3), np.float32)
    means = images.reshape(1, 3, 8, 2, 12, 2, 3).mean((3, 5))
    source = jax.jit(MVDust3r(small).init)(jax.random.key(1), means)
    fresh = jax.jit(MVDust3r(large).init)(jax.random.key(0), images)
    started, origin = port.init_from(fresh, jax.tree.map(np.asarray, source), large)
    wanted = jax.jit(MVDust3r(small).apply)(source, means)
    got = jax.jit(MVDust3r(large).apply)(started, images)
    for ours, theirs in ((got.points, wanted.points), (got.confidence, wanted.confidence)):
        np.testing.assert_allclose(ours, theirs.repeat(2, 2).repeat(2, 3), rtol=1e-4, atol=1e-4)
    assert all("point_head" in name for name in origin.fresh)


def test_networks_that_no_release_has_are_not_written_as_one():
    """The conv head and the approximate GELU have no place in PyTorch's files."""
    for fields in ({"head": "conv", "patch": 8}, {"gelu": "tanh"}):
        config = dataclasses.replace(CONFIG, **fields)
        with pytest.raises(ValueError, match="PyTorch releases have head"):
            port.flax_to_torch(numbers(config, 0), config)
