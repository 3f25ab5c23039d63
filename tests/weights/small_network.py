"""A small network of every part, and numbers for it."""

import dataclasses

import jax
import numpy as np

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.models.mvdust3r import abstract_variables

CONFIG = ModelConfig(
    16, 2, 2, 16, 2, 2, patch=4, skip_width=8, gaussian_hidden=8, cross_ref=True, sh_degree=1
)


def numbers(config, seed):
    """For files: of one size everywhere (`random_networks` has weights to compute with)."""
    rng = np.random.default_rng(seed)
    tree = abstract_variables(config)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), tree)


def dust3r(config):
    return dataclasses.replace(config, skip=False, gaussians=False, cross_ref=False)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
