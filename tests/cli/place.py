"""Weights and photographs that the tests of the command line share, and how they run a command."""

import jax
import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax import ModelConfig, cli
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.weights import files as weight_files

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with weights and three photographs, whose names are not plain."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    weight_files.save_weights(folder / "w.safetensors", variables, CONFIG, image_size=(16, 24))
    (folder / "фото é").mkdir()
    for i, size in enumerate([(40, 60), (60, 40), (33, 47)]):
        array = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / "фото é" / f"{i} a.png")
    return folder


@pytest.fixture(scope="session")
def kept_programs(tmp_path_factory):
    """The user's cache of all tests of the folder: what one has compiled serves the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, kept_programs):
    """Nothing of a test ends in the user's folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept_programs))


def run(place, *arguments, command="reconstruct"):
    """The exit code of a command on the place's weights."""
    arguments = [str(a) for a in arguments]
    if command == "reconstruct":
        arguments += ["--weights", str(place / "w.safetensors")]
    return cli.main([command, *arguments])
