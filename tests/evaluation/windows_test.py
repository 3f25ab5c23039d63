"""Windows under jit answer as windows of photographs do."""

import jax
import jax.numpy as jnp
import numpy as np

from data.box import box_views
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation.windows import predict_in_windows
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.models.window_plan import in_order
from mvdust3r_jax.reconstruction.network import Answer
from mvdust3r_jax.reconstruction.windows import ask_in_windows
from mvdust3r_jax.types import images_from_01
from tests.evaluation.boxes import tiny_network

VIEWS, AT_ONCE, SIZE = 5, 3, 16


def test_both_ways_of_joining_windows_agree():
    """Two scenes of 5 views, 3 at a time: the same points, and of each view the surer answer's."""
    network = tiny_network()
    batch = box_views(np.random.default_rng(0), 2, VIEWS, SIZE, SIZE)
    pixels = np.uint8(np.rint(127.5 * (np.asarray(batch.images) + 1)))
    batch = jax.tree.map(
        jnp.asarray, batch.replace(images=images_from_01(np.float32(pixels) / 255))
    )
    options = dict(config=network.config, num_inputs=VIEWS, at_once=AT_ONCE)
    found = jax.jit(lambda b: predict_in_windows(network.variables, b, **options))(batch)
    apply = jax.jit(MVDust3r(network.config).apply)

    def ask(variables, pixels):
        answer = apply(variables, images_from_01(np.float32(pixels) / 255)[None]).replace(
            gaussians=None
        )
        return Answer(jax.device_get(jax.tree.map(lambda x: x[0], answer)), 0)

    # The batch has the views of a walk in another order.
    place = np.argsort(network_order(VIEWS)).tolist()
    plan = [[place[view] for view in views] for views in in_order(VIEWS, AT_ONCE)]
    assert len(plan) > 1 and place != sorted(place)
    for scene in range(2):
        wanted = ask_in_windows(ask, network.variables, pixels[scene], plan).prediction
        np.testing.assert_allclose(found.points[scene], wanted.points, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.confidence[scene], wanted.confidence, rtol=1e-4)
