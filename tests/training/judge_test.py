"""Evaluation while training: sets are opened before the first step, and go through in turn."""

import types
import weakref

import numpy as np
import pytest

import train
from configs import build, tiny
from data.box import BoxSource
from data.mixture import MixedIterator
from mvdust3r_jax.training.judge import Judge, check_sets, deciding, mean_of
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.run import Run

BOXES = {"num_inputs": (2,), "num_targets": 0, "height": 8, "width": 8, "seed": 0}


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


def test_sets_are_told_apart_by_what_they_are_made_of():
    """Digests of stored parts, also of those in a mixture, and how many samples there are."""

    class Stored(BoxSource):
        epoch_samples = 6

        def get_state(self):
            return super().get_state() | {"made_from": ["3f"], "sample": 0}

    stored, made = Stored(batch_size=2, **BOXES), BoxSource(batch_size=2, **BOXES)
    mixed = MixedIterator([stored, stored], [0.5, 0.5], seed=0)
    opened = {"a": lambda: stored, "b": lambda: mixed, "c": lambda: made}
    assert check_sets(opened) == {
        "a": {"made_from": ["3f"], "samples": 6},
        "b": {"made_from": ["3f", "3f"], "samples": 12},
        "c": {"made_from": [], "samples": 0},
    }


def test_batches_are_evaluated_one_after_the_other(tmp_path, monkeypatch):
    """While one is on the chips the next is made; it gets there when that one's numbers are here.

    Of those before only the first is kept, which is drawn.
    """
    told, alive, drawn = [], [], []

    class Watched(BoxSource):
        def __next__(self):
            assert sum(batch() is not None for batch in alive) <= 2
            batch, info = super().__next__()
            alive.append(weakref.ref(batch.images))
            told.append("make")
            return batch, info

    class Number:
        def __array__(self, *_, **__):
            told.append("fetch")
            return np.float32(1)

    def evaluate(state, batch):
        told.append("evaluate")
        return {"nd": Number(), "samples": 2}

    run = Run(None, types.SimpleNamespace(put_batch=lambda batch: batch), None, evaluate, None)
    log = MetricLog(tmp_path, 0, tensorboard=False, active=False)
    monkeypatch.setattr(Judge, "_draw", lambda *given: drawn.append(given[-1].images))
    sets = {"a": lambda: Watched(batch_size=2, **BOXES)}
    done = []
    judge = Judge(run, log, sets, batches=4, after_each=lambda: done.append(told[-1]))
    assert judge.means(1, None, draw=True) == {"a": {"nd": 1.0}}
    assert told == ["make", *["evaluate", "make", "fetch"] * 3, "evaluate", "fetch"]
    assert drawn[0] is alive[0]()
    assert done == ["fetch"] * 4, "a watchdog hears of every batch"
