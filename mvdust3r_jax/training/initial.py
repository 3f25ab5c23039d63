"""The weights that a run begins with."""

from __future__ import annotations

import functools

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.weights import warm_start
from mvdust3r_jax.weights.files import load_source
from mvdust3r_jax.weights.places import find_weights


def initial_variables(
    model: MVDust3r, *, height: int, width: int, seed: int, init_from: str = ""
) -> dict:
    """Random weights, and in their place those that ``init_from`` has (path, workdir or name).

    height, width: of the images in pixels. Weights that are nowhere are an error before anything is
    compiled.
    """
    file = find_weights(init_from) if init_from else None
    init = jax.jit(functools.partial(model.init, num_refs=1, all_paths=True))
    variables = init(jax.random.key(seed), np.zeros((1, 2, height, width, 3), np.float32))
    if file is None:
        return variables
    source = load_source(file)
    variables, origin = warm_start.init_from(variables, source, model.config)
    logging.info("weights of %s: %s", init_from, origin)
    return variables
