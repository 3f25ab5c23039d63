"""What methods ask of a network."""

import functools

import jax
import numpy as np

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.evaluation import networks
from mvdust3r_jax.types import Batch
from tests.compiled import uniform
from tests.random_networks import random_variables

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussians=False)


def test_asked_of_the_mirror_too_the_answer_is_a_mirror_s():
    """Mirrored images give the mirrored points up to their scale; asked once they do not."""
    variables = random_variables(CONFIG)
    images = uniform(0, 2, 3, 16, 24, 3, low=-1.0)
    # The second view is in the middle, in a mirror as well.
    images = images.at[:, 1].set((images[:, 0] + images[:, 2]) / 2)

    def apart(method):
        ask = jax.jit(functools.partial(method, config=CONFIG, num_inputs=3))
        both = [ask(variables, Batch(*([x] + 3 * [None]))) for x in (images, images[..., ::-1, :])]
        assert all(np.all(reference == 1) for _, reference in both)
        seen, image = (prediction.points for prediction, _ in both)
        image = np.asarray(image)[..., ::-1, :] * np.float32([-1, 1, 1])
        sizes = (np.abs(x).mean(axis=(1, 2, 3, 4), keepdims=True) for x in (seen, image))
        image = image * np.divide(*sizes)
        return np.abs(image - seen).mean() / np.abs(seen).mean()

    assert apart(networks.predict_with_mirror) < 1e-3 < apart(networks.predict_from_middle_view)
