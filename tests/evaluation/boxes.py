"""Boxes to evaluate on, and a tiny network: what the tests of this folder share."""

import jax
import jax.numpy as jnp
import numpy as np

from data.box import box_views
from data.eval_sets import EvalSet, make_eval_set
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.models.network import Network

SIZE, VIEWS, TARGETS, SCENES = 32, 4, 1, 3


def box_set(max_views=VIEWS):
    """Scenes inside a box, by number."""

    def ids(num_inputs, num_targets):
        if num_inputs > max_views:
            raise ValueError(f"boxes: {num_inputs} views wanted, there are {max_views}")
        return [str(i) for i in range(SCENES)]

    def load(ids, num_inputs, num_targets):
        scenes = [
            box_views(np.random.default_rng(int(i)), 1, num_inputs + num_targets, SIZE, SIZE)
            for i in ids
        ]
        return jax.tree.map(lambda *x: np.concatenate(x), *scenes)

    return EvalSet("boxes", (SIZE, SIZE), ids, load)


def tiny_network():
    """With random weights."""
    config = VARIANTS["tiny"]
    images = jnp.zeros((1, 2, SIZE, SIZE, 3))
    return Network(config, jax.jit(MVDust3r(config).init)(jax.random.key(0), images))


def stored_set(folder, split_file="", **changes):
    """A stored data set of boxes."""
    settings = dict(source="records", folder=str(folder), split="test", height=SIZE, width=SIZE)
    return make_eval_set("stored", split_file=split_file, **settings | changes)
