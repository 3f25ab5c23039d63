"""The whole network: what its structure promises."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS, ModelConfig, MVDust3r
from mvdust3r_jax.models.decoder import decoder_of
from mvdust3r_jax.models.encoder import encoder_of
from mvdust3r_jax.models.mvdust3r import abstract_variables
from tests.compiled import compiled as compiled_of
from tests.compiled import normal

SMALL = ModelConfig(
    32, 2, 2, 32, 2, 2, patch=8, skip=False, gaussian_hidden=16, cross_ref=True, conf_max=100.0
)


@functools.cache
def compiled(config, **options):
    return jax.jit(lambda v, x: MVDust3r(config).apply(v, x, **options))


def run(config, variables, images, **options):
    return compiled(config, **options)(variables, images)


def random_images(views, seed=0, size=(16, 24)):
    return jax.random.uniform(jax.random.key(seed), (1, views, *size, 3), minval=-1, maxval=1)


@pytest.fixture(scope="module")
def small():
    """A fresh network (zero cross-reference blocks) and one whose every parameter is random."""
    fresh = jax.jit(lambda k: MVDust3r(SMALL).init(k, random_images(2)))(jax.random.key(1))
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(
        lambda x: x + 0.05 * rng.standard_normal(x.shape).astype(np.float32), fresh
    )
    return fresh, noisy


def test_path_0_alone_is_path_0_of_all(small):
    """Leaving out what only other paths need changes nothing (rounding: 1e-6)."""
    images = random_images(5)
    alone = run(SMALL, small[1], images, num_refs=3)
    every = run(SMALL, small[1], images, num_refs=3, all_paths=True)
    assert every.points.shape == (1, 3, 5, 16, 24, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:, 0], atol=1e-5), alone, every)


def test_swapping_sources_swaps_their_results(small):
    """Views that are no reference on any path have no order."""
    images, swap = random_images(5), np.array([0, 1, 2, 4, 3])
    a = run(SMALL, small[1], images, num_refs=3, all_paths=True)
    b = run(SMALL, small[1], images[:, swap], num_refs=3, all_paths=True)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[:, :, swap], y, atol=1e-5), a, b)


@pytest.mark.parametrize("r", [0, 1, 2])
def test_fresh_path_is_the_plain_network(small, r):
    """With fresh cross-reference blocks, path r is the R = 1 network with view r put first."""
    images, order = random_images(5), np.array([r] + [v for v in range(5) if v != r])
    every = run(SMALL, small[0], images, num_refs=3, all_paths=True)
    plain = run(dataclasses.replace(SMALL, cross_ref=False), small[0], images[:, order])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[:, r][:, order], b, atol=1e-5), every, plain
    )


def test_trained_cross_reference_blocks_matter(small):
    """Once they are not zero, the paths do talk to each other."""
    images = random_images(5)
    one = run(SMALL, small[1], images, num_refs=1).points
    three = run(SMALL, small[1], images, num_refs=3).points
    assert np.abs(one - three).max() > 1e-3


def test_batch_entries_are_independent(small):
    """A batch of two is two runs of one."""
    images = jnp.concatenate([random_images(5, 0), random_images(5, 1)])
    both = run(SMALL, small[1], images, num_refs=3)
    second = run(SMALL, small[1], images[1:], num_refs=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1:], b, atol=1e-5), both, second)


def test_unrolled_layers_are_the_scanned_ones(small):
    """Writing layers out changes nothing."""
    images = random_images(5)
    config = dataclasses.replace(SMALL, unroll=True)
    a, b = (run(c, small[1], images, num_refs=3).points for c in (SMALL, config))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "refs", "message"),
    [
        ((1, 2, 16, 20, 3), 1, "multiples of 8, got 16 x 20"),
        ((1, 1, 16, 16, 3), 1, "at least 2 views"),
        ((1, 3, 16, 16, 3), 4, r"1 to 3 .* got 4"),
        ((2, 16, 16, 3), 1, r"\[B, V, H, W, 3\]"),
    ],
)
def test_wrong_input_is_named(shape, refs, message):
    """What does not fit is quoted beside what was expected."""
    model = MVDust3r(SMALL)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda k: model.init(k, jnp.zeros(shape), num_refs=refs), jax.random.key(0))


@pytest.mark.parametrize(
    "change",
    [
        {"head": "mlp"},
        {"dtype": "int8"},
        {"enc_heads": 3},
        {"head": "dpt"},
        {"head": "dpt", "patch": 16, "dec_depth": 1},
        {"gaussian_hidden": 6},
    ],
)
def test_wrong_config_is_refused(change):
    """A config that is no network fails when it is made."""
    with pytest.raises(ValueError, match="got"):
        dataclasses.replace(SMALL, **change)


def test_release_sizes():
    """MV-DUSt3R+ has the published 661.4 million parameters, and small networks are small."""
    sizes = {}
    for name in ("mvdp", "small", "tiny"):
        params = abstract_variables(VARIANTS[name])["params"]
        sizes[name] = sum(x.size for x in jax.tree.leaves(params))
    assert round(sizes["mvdp"] / 1e6, 1) == 661.4
    assert sizes["small"] < 12e6 and sizes["tiny"] < 1e6


def test_published_networks_have_the_published_heads_and_limits():
    """Which no count of parameters knows; DUSt3R's confidences have no limit."""
    found = {
        name: (VARIANTS[name].enc_heads, VARIANTS[name].dec_heads, VARIANTS[name].conf_max)
        for name in ("dust3r_224", "dust3r_512", "dust3r_512_dpt", "mvd", "mvdp")
    }
    dust3r, ours = (16, 12, float("inf")), (16, 12, 1e9)
    assert found == {name: ours if name.startswith("mvd") else dust3r for name in found}


def test_layers_kept_of_path_0_are_path_0_of_all(small):
    """What a head reads between the layers is of the same path as what comes after them."""
    decoder, params = decoder_of(SMALL), {"params": small[1]["params"]["decoder"]}

    @jax.jit
    def both(tokens):
        ways = (False, True)
        return [decoder.apply(params, tokens, (2, 3), 3, way, keep_layers=True)[1] for way in ways]

    alone, every = both(normal(0, 1, 4, 6, 32))
    np.testing.assert_allclose(alone, every[:, :, :1], atol=1e-5)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_small_steps_of_layers_add_up_in_bfloat16(part):
    """The residual stream is float32: beside 256 a layer's 0.5 would be rounded away."""
    config = ModelConfig(8, 8, 1, 8, 8, 1, patch=4, skip=False, gaussians=False, dtype="bfloat16")
    params = jax.tree.map(lambda x: np.zeros(x.shape), abstract_variables(config)["params"][part])
    large, small = np.tile([256.0, -256.0], 4), np.repeat([0.5, 0.0], 4)
    params["norm"]["scale"] += 1
    params["patch_embed" if part == "encoder" else "embed"]["bias"] += large
    for name in ("blocks",) if part == "encoder" else ("ref_blocks", "src_blocks"):
        params[name]["mlp"]["fc2"]["bias"] += small
    params = {"params": jax.tree.map(np.float32, params)}
    if part == "encoder":
        got = compiled_of(encoder_of(config).apply)(params, np.zeros((2, 4, 4, 3), np.float32))
    else:
        tokens = np.zeros((1, 2, 1, 8), np.float32)
        got, _ = compiled_of(decoder_of(config).apply)(params, tokens, (1, 1), 1, False)
    total = large + config.enc_depth * small
    want = (total - total.mean()) / total.std()
    # The norm is float32; without the steps values would differ by 0.01.
    np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), atol=1e-5)
