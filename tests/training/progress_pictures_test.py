"""Pictures for the metric log: what is on them, and where on the sheet."""

from functools import partial

import jax
import numpy as np

from mvdust3r_jax.training.objective import total_loss
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.progress_pictures import contact_sheet, picture_step
from mvdust3r_jax.training.state import TrainState
from mvdust3r_jax.training.step import Recipe
from tests.training.render_loss_test import batch_of, perfect

CONFIG = ObjectiveConfig(1, 1, {"rgb": 1.0}, sh_degree=1, max_scale=0.1)


class Known:
    """A network in name only: its parameters are what it predicts."""

    @staticmethod
    def apply(variables, images, num_refs):
        prediction = variables["params"]
        assert images.shape == prediction.points[:, 0].shape and num_refs == 1
        return jax.tree.map(lambda x: x[:, 0], prediction)


def pictures(params, average, batch):
    state = TrainState(None, params, {}, None, average, None, None, None)
    return picture_step(state, batch, recipe=Recipe(Known, None, None, CONFIG, *[None] * 5))


def test_pictures_are_of_the_averaged_network_on_the_first_sample():
    """As rendered as in the loss: its color term is their distance from the truth."""
    batch = batch_of(2, pixels=16)
    one = jax.device_put(jax.tree.map(lambda x: np.asarray(x)[:1], batch))
    prediction = perfect(one, 1, 1)
    shape = prediction.gaussians.colors.shape
    colors = np.random.default_rng(0).normal(size=shape, scale=0.3).astype(np.float32)
    average = prediction.replace(gaussians=prediction.gaussians.replace(colors=colors))
    rows = jax.device_get(jax.jit(pictures)(prediction, average, batch))
    # From the top: what passes through a program comes back in the order of its names.
    assert list(rows) == ["confidence", "distance", "input", "rendered", "truth"]
    images = np.asarray(batch.images)[0]
    np.testing.assert_array_equal(rows["input"], images[:2])
    np.testing.assert_array_equal(rows["truth"], images)
    lengths = np.linalg.norm(prediction.points[0, 0], axis=-1)
    np.testing.assert_allclose(rows["distance"], lengths, rtol=1e-5)
    np.testing.assert_allclose(rows["confidence"], np.log(2), rtol=1e-6)
    loss = jax.jit(partial(total_loss, CONFIG))(average, one, jax.random.key(0))[1]["rgb"]
    distance = np.linalg.norm(rows["rendered"] - rows["truth"], axis=-1).mean()
    np.testing.assert_allclose(distance, loss, rtol=1e-5)


def test_without_average_and_gaussians_there_are_points_alone():
    """The parameters themselves are used, and nothing is rendered."""
    batch = batch_of(pixels=16)
    rows = jax.eval_shape(pictures, perfect(batch, 1).replace(gaussians=None), {}, batch)
    assert list(rows) == ["confidence", "distance", "input"]


def test_rows_lie_below_each_other_and_views_beside():
    """Colors from [-1, 1] to [0, 1], cut there; grays from the 2nd to the 98th percentile; gaps."""
    colors = np.float32([-1, 0, 2, 1]).reshape(2, 1, 2, 1).repeat(3, -1)
    grays = np.arange(101.0, dtype=np.float32).reshape(1, 1, 101)
    sheet = contact_sheet({"colors": colors, "grays": grays, "even": np.full_like(grays, 7)})
    assert sheet.shape == (3 * (1 + 2), 101 + 2, 3)
    expected = np.zeros_like(sheet)
    expected[0, [0, 1, 4, 5]] = np.float32([[0], [0.5], [1], [1]])
    expected[3, :101] = np.clip((np.arange(101.0) - 2) / 96, 0, 1)[:, None]
    np.testing.assert_allclose(sheet, expected, atol=1e-6)
