"""The weights that a run begins with."""

import json

import jax
import numpy as np
import pytest
from absl import logging
from flax import linen as nn

from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.training.initial import initial_variables, warn_of_known_rooms


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


@pytest.mark.parametrize(
    "change, warned",
    [
        ({}, True),
        ({"seed": 4}, False),
        ({"split": "validation"}, False),
        ({"source": "box"}, False),
    ],
)
def test_a_run_on_the_rooms_of_its_weights_is_told_so(tmp_path, monkeypatch, change, warned):
    """A data.seed of its own gives other rooms; files of weights know nothing of their rooms."""
    data = {"source": "rooms", "seed": 3, "split": "train"}
    meta = tmp_path / "checkpoints/20/meta/metadata"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"config": json.dumps({"data": data})}))
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    warn_of_known_rooms(str(tmp_path), data | change)
    warn_of_known_rooms("small", data | change)
    assert len(said) == warned and all("data.seed = 3" in text for text in said)
