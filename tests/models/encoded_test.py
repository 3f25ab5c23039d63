"""A network in parts is the network."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.models.encoded import encode_views, predict_and_keep


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_the_encoder_on_its_own_is_the_networks(gelu):
    """The same tokens, whatever the network's options."""
    config = dataclasses.replace(VARIANTS["tiny"], gelu=gelu, gaussians=False, cross_ref=False)
    images = jax.random.uniform(jax.random.key(1), (1, 2, 8, 16, 3), minval=-1.0)
    variables = jax.jit(MVDust3r(config).init)(jax.random.key(0), images)
    inside = jax.jit(functools.partial(predict_and_keep, config=config, num_refs=1))
    alone = jax.jit(functools.partial(encode_views, config=config))
    wanted = inside(variables, images)[1]
    np.testing.assert_allclose(alone(variables, images), wanted, atol=2e-6)


def test_the_gelu_of_a_network_is_its_encoders():
    """The two kinds differ by little, but they differ."""
    configs = [dataclasses.replace(VARIANTS["tiny"], gelu=gelu) for gelu in ("erf", "tanh")]
    images = jax.random.uniform(jax.random.key(1), (1, 2, 8, 16, 3), minval=-1.0)
    variables = jax.jit(MVDust3r(configs[0]).init)(jax.random.key(0), images)
    erf, tanh = (
        jax.jit(functools.partial(encode_views, config=c))(variables, images) for c in configs
    )
    assert 1e-6 < np.abs(erf - tanh).max() < 1e-2
