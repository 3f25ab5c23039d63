"""The weights that a run begins with."""

import jax
import numpy as np
from flax import linen as nn

from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.training.initial import initial_variables


class OneLayer(MVDust3r):
    """A network in name only, so that nothing large is compiled."""

    @nn.compact
    def __call__(self, images, num_refs=1, all_paths=False):
        return nn.Dense(3)(images)


def test_random_weights_follow_the_seed():
    """Those that the network draws with ``key(seed)``."""
    model = OneLayer(ModelConfig(16, 1, 1, 16, 1, 1, patch=8))
    found = initial_variables(model, height=16, width=16, seed=5)
    expected = jax.jit(model.init)(jax.random.key(5), np.zeros((1, 2, 16, 16, 3), np.float32))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
