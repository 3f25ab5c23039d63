"""Box scenes as a stored data set, and streams of it: what the tests of this folder share."""

import itertools

import jax
import numpy as np
import pytest

from data.schema import CorruptRecord, Frame, Scene, Trajectories, encode_depth
from data.stored.builder import SceneBuilder
from data.stored.config import DataConfig
from data.stored.write import write_dataset
from tests.posed_folders import box_scene

FRAMES, TRAJECTORIES = 12, 10


class Boxes(SceneBuilder, skip_registration=True):
    """Box scenes: 6 inputs, 2 targets of which one needs 4 inputs and one 6."""

    def __init__(self, *, bad=(), **builder_args):
        self._bad = bad
        super().__init__(num_inputs=6, num_targets=2, **builder_args)

    def scene_names(self):
        return {"train": ["0", "1"], "test": ["2"]}

    def load_scene(self, split, name):
        scene = box_scene(num_views=FRAMES, size=(96, 128), seed=int(name))
        rng = np.random.default_rng(int(name))
        rows = np.stack([rng.permutation(FRAMES)[:8] for _ in range(TRAJECTORIES)])
        needs = np.tile([4, 6], (TRAJECTORIES, 1))

        def frame(i):
            if (name, i) in self._bad:
                raise CorruptRecord(f"frame {i} is bad")
            depth = encode_depth(scene.depth_m[i], 1e-4)
            return Frame(f"{i}", scene.jpegs[i], depth, scene.poses[i], scene.intrinsics, 1e-4)

        tables = Trajectories(rows[:, :6].astype(np.int32), rows[:, 6:].astype(np.int32), needs)
        return Scene(name, FRAMES, frame, tables)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The data set."""
    out = tmp_path_factory.mktemp("boxes")
    return write_dataset(lambda config: Boxes(data_dir=out, config=config))[0]


def config(folder, **changes):
    """Four inputs and a target of 32x32 pixels."""
    settings = dict(
        sources=((str(folder), 1.0),),
        num_inputs=(4,),
        num_targets=1,
        image_size=(32, 32),
        threads=2,
        read_ahead=4,
    )
    return DataConfig(**(settings | changes))


def take(iterator, count):
    """The next so many batches."""
    return list(itertools.islice(iterator, count))


def assert_equal(one, other):
    """Batches and what is told of them are the same."""
    for (a, info_a), (b, info_b) in zip(one, other, strict=True):
        assert info_a == info_b
        jax.tree.map(np.testing.assert_array_equal, a, b)
