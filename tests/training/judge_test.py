"""A set that cannot be opened is an error before the first step; the first one decides."""

import numpy as np
import pytest

import train
from configs import build, tiny
from mvdust3r_jax.training.judge import deciding, mean_of
from mvdust3r_jax.training.processes import RunError


def test_wrong_evaluation_set_is_named(tmp_path):
    """Without evaluation nobody opens it."""
    config = tiny.get_config()
    config.eval = {"held_out": {"source": "records", "mixture": ((str(tmp_path / "none"), 1.0),)}}
    config.eval_every = 0
    assert train.open_data(config)[1] == {}
    config.eval_every = 1
    with pytest.raises(RunError, match="config.eval.held_out cannot be opened.*no data set"):
        train.open_data(config)


def test_sets_to_evaluate_on_are_plain_unless_they_say_so():
    """Neither augmented, also of the training split, nor the same rooms again and again."""
    config = tiny.get_config()
    config.data.reuse, config.eval_every = 2, 1
    stored = {"source": "records", "split": "train"}
    config.eval = {"rooms": {}, "twice": {"reuse": 2}, "a": stored, "b": stored | {"augment": True}}
    sets = build.eval_settings(config)
    assert [sets[name]["reuse"] for name in ("rooms", "twice", "a")] == [1, 2, 1]
    assert [sets[name]["augment"] for name in ("rooms", "a", "b")] == [True, False, True]


def test_evaluation_needs_a_set():
    """Known before anything is opened."""
    config = tiny.get_config()
    config.eval = {}
    with pytest.raises(ValueError, match="eval names no set"):
        build.check(config)


def test_nd_is_a_mean_over_samples_with_depth_and_the_rest_over_batches():
    """A batch without any changes nothing; one whose prediction is no number does."""
    batches = [
        {"nd": 0.2, "samples": 1, "loss": 1.0},
        {"nd": 0.4, "samples": 3, "loss": 2.0},
        {"nd": 0.0, "samples": 0, "loss": 3.0},
    ]
    assert mean_of(batches) == pytest.approx({"nd": 0.35, "loss": 2.0})
    assert np.isnan(mean_of(batches[2:])["nd"])
    assert np.isnan(mean_of([*batches, {"nd": np.nan, "samples": 1, "loss": 0.0}])["nd"])


def test_what_decides_is_named_by_set_and_metric():
    """So that a set that is put first later on does not compare with the one before."""
    means = {"views_8": {"nd": 0.3, "loss": 2.0}, "views_4": {"nd": 0.2, "loss": 1.0}}
    assert deciding(means, "nd") == ("views_8/nd", 0.3)
