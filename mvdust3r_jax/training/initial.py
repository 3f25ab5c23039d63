"""The weights that a run begins with."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.weights import folders, warm_start
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


def warn_of_known_rooms(init_from: str, data: Mapping[str, Any]) -> None:
    """A generated room is a function of ``data.seed`` and its number in the run.

    So a run that starts from another one with the same seed sees the same rooms once more, in the
    same order, which no curve of its training shows. data: ``config.data`` of the new run.
    """
    if not init_from or data["source"] != "rooms":
        return
    path = find_weights(init_from)
    before = folders.data_of_run(path) if path.is_dir() else {}
    same = ("source", "seed", "split")
    if before and all(before.get(name) == data[name] for name in same):
        logging.warning(
            "%s was trained on generated rooms with data.seed = %s: this run sees the same rooms "
            "again, in the same order; give it another data.seed",
            *(init_from, data["seed"]),
        )
