"""A warm start takes what fits and says what it took."""

import dataclasses

import jax
import numpy as np
import pytest

from mvdust3r_jax import MVDust3r
from mvdust3r_jax.weights import port, warm_start
from tests.random_networks import random_variables
from tests.weights.small_network import CONFIG, dust3r, numbers


def test_dust3r_starts_the_large_network():
    """All that DUSt3R has is taken; skip CNN, Gaussians and cross-reference blocks stay fresh."""
    source = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    source["mask_token"] = np.zeros((1, 1, 16), np.float32)
    fresh = numbers(CONFIG, 2)
    started, report = warm_start.init_from(fresh, source, CONFIG)
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
    started, report = warm_start.init_from(numbers(CONFIG, 2), state, CONFIG)
    decoder = started["params"]["decoder"]
    jax.tree.map(np.testing.assert_array_equal, decoder["ref_blocks"], decoder["src_blocks"])
    assert report.copied and all("/src_blocks/" in n for n in report.copied)
    assert report.unused == ("prediction_head.weight",)


def test_our_own_network_starts_the_plus():
    """MV-DUSt3R's variables start MV-DUSt3R+, whose cross-reference blocks stay fresh."""
    plain = dataclasses.replace(CONFIG, cross_ref=False)
    source, fresh = numbers(plain, 1), numbers(CONFIG, 2)
    started, report = warm_start.init_from(fresh, source, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, started["batch_stats"], source["batch_stats"])
    assert all("cross_ref" in n for n in report.fresh) and report.fresh


def test_started_network_runs():
    """A warm start is a complete set of variables."""
    source = port.flax_to_torch(numbers(dust3r(CONFIG), 1), dust3r(CONFIG))
    started, _ = warm_start.init_from(numbers(CONFIG, 2), source, CONFIG)
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
        warm_start.init_from(numbers(target, 2), source, target)


def test_larger_patches_do_the_same_on_means_of_pixels():
    """Twice as high and wide images and patches: the points of the means, each for 2 x 2 pixels."""
    small = dataclasses.replace(CONFIG, skip=False, cross_ref=False)
    large = dataclasses.replace(small, patch=8, head="conv", gaussians=False)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1, 3, 16, 24, 3), np.float32)
    means = images.reshape(1, 3, 8, 2, 12, 2, 3).mean((3, 5))
    source = random_variables(small)
    fresh = jax.jit(MVDust3r(large).init)(jax.random.key(0), images)
    started, origin = warm_start.init_from(fresh, jax.tree.map(np.asarray, source), large)
    wanted = jax.jit(MVDust3r(small).apply)(source, means)
    got = jax.jit(MVDust3r(large).apply)(started, images)
    for ours, theirs in ((got.points, wanted.points), (got.confidence, wanted.confidence)):
        np.testing.assert_allclose(ours, theirs.repeat(2, 2).repeat(2, 3), rtol=1e-4, atol=1e-4)
    assert all("point_head" in name for name in origin.fresh)


def test_a_deeper_network_begins_as_the_one_it_starts_from():
    """From 2 layers to 4 and 3: the same answers, and the new layers are those that pass on."""
    source_config = dataclasses.replace(CONFIG, skip=False)
    deep = dataclasses.replace(source_config, enc_depth=3, dec_depth=4)
    images = np.random.default_rng(0).standard_normal((1, 3, 8, 8, 3), np.float32)
    source = numbers(source_config, 1)
    started, origin = warm_start.init_from(numbers(deep, 2), source, deep)
    wanted, got = (
        jax.jit(lambda v, x, c=c: MVDust3r(c).apply(v, x, num_refs=2, all_paths=True))(v, images)
        for c, v in ((source_config, source), (deep, started))
    )
    np.testing.assert_allclose(got.points, wanted.points, rtol=1e-4, atol=1e-4)
    kernels = started["params"]["decoder"]["src_blocks"]["mlp"]["fc2"]["kernel"]
    assert [bool(np.any(layer)) for layer in kernels] == [True, False, True, False]
    assert not origin.fresh and not origin.unused


def test_a_deeper_network_of_another_width_is_refused():
    """By the names and shapes of what does not fit."""
    other = dataclasses.replace(CONFIG, enc_depth=3, dec_dim=CONFIG.dec_dim // 2, dec_depth=4)
    with pytest.raises(ValueError, match=r"misshapen.*\n.*decoder/.*: expected \(4, .* got \(2, "):
        warm_start.init_from(numbers(other, 2), numbers(CONFIG, 1), other)
