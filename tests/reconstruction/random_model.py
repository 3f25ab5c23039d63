"""A network of random weights whose paths see each other, and which takes hardly any time."""

import jax
import numpy as np
import pytest

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.reconstruction.model import Model

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)


@pytest.fixture(scope="module")
def model():
    """For photographs of 16 x 24 pixels."""
    rng = np.random.default_rng(0)
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    return Model(CONFIG, variables, (16, 24), "test")
