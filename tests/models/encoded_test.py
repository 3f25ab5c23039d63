"""A network in parts is the network."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.models.encoded import encode_views, predict_and_keep
from tests.compiled import uniform
from tests.random_networks import random_variables


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_the_encoder_on_its_own_is_the_networks(gelu):
    """The same tokens, whatever the network's options."""
    config = dataclasses.replace(VARIANTS["tiny"], gelu=gelu, gaussians=False, cross_ref=False)
    variables, images = random_variables(config), uniform(1, 1, 2, 8, 16, 3, low=-1.0)
    inside = jax.jit(functools.partial(predict_and_keep, config=config, num_refs=1))
    alone = jax.jit(functools.partial(encode_views, config=config))
    wanted = inside(variables, images)[1]
    np.testing.assert_allclose(alone(variables, images), wanted, atol=2e-6)


def test_the_gelu_of_a_network_is_its_encoders():
    """The two kinds differ by little, but they differ."""
    configs = [dataclasses.replace(VARIANTS["tiny"], gelu=gelu) for gelu in ("erf", "tanh")]
    variables, images = random_variables(configs[0]), uniform(1, 1, 2, 8, 16, 3, low=-1.0)
    erf, tanh = (
        jax.jit(functools.partial(encode_views, config=c))(variables, images) for c in configs
    )
    assert 1e-6 < np.abs(np.asarray(erf) - np.asarray(tanh)).max() < 1e-2
