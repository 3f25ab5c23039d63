"""A run that goes on asks its data to go on, too."""

import contextlib
import re

import jax
import pytest

from data.box import BoxSource
from data.mixture import MixedIterator
from mvdust3r_jax.training.checkpoint import NEWEST, Checkpoints
from mvdust3r_jax.training.parallel import DataParallel
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.resume import go_on, go_to, resume
from tests.training.checkpoint_test import MODEL, as_numpy, state_at


def test_a_position_of_another_kind_of_source_is_an_error_of_one_line():
    """Boxes find no position of theirs in that of a mixture."""
    source = BoxSource(batch_size=2, num_inputs=(2,), num_targets=0, height=8, width=8, seed=0)
    with pytest.raises(RunError, match="at step 7 is that of another kind of .* than BoxSource"):
        go_to(source, MixedIterator([source], [1.0], seed=0).get_state(), step=7)


def test_other_data_that_were_allowed_begin_anew(caplog):
    """Built anew in their place, no setting differs; it is told, and so is what allows it."""

    class Stored:
        def set_state(self, position):
            raise ValueError("the data sets were built anew")

    go_on(Stored(), {}, 7, allow_changes=True)
    assert "first sample: step 7: the data sets were built anew" in caplog.text
    with pytest.raises(RunError, match="built anew; with --allow_changes"):
        go_on(Stored(), {}, 7, allow_changes=False)


def test_what_a_source_refuses_is_an_error_of_one_line():
    """Its own words, and the step."""

    class Stored:
        def set_state(self, position):
            raise ValueError("the data sets were built anew")

    with pytest.raises(RunError, match="^step 7: the data sets were built anew$"):
        go_to(Stored(), {}, step=7)


def test_another_set_to_evaluate_on_must_be_allowed(tmp_path):
    """It may have the same name; a checkpoint of before this was kept goes on with any."""
    config = '{"eval": {"held_out": {}}}'
    data = {"batch_size": 2, "num_inputs": (2,), "num_targets": 0, "height": 8, "width": 8}

    def start(made_of, allow_changes=False):
        """Saves a first step, or goes on."""
        opened = Checkpoints(tmp_path, MODEL, config, sets={"held_out": made_of})
        with contextlib.closing(opened) as checkpoints:
            state, source = as_numpy(state_at(1)), BoxSource(seed=0, **data)
            if not checkpoints.newest_step():
                return checkpoints.save(1, state, source.get_state())
            chips = DataParallel(jax.devices()[:1])
            return resume(checkpoints, chips, state, source, config, allow_changes)[2]

    start("rooms")
    assert start("rooms") == {}
    with pytest.raises(RunError, match="held_out.made_of: 'rooms' before, 'boxes' now"):
        start("boxes")
    assert start("boxes", allow_changes=True) == {"eval.held_out.made_of": ("rooms", "boxes")}
    path = tmp_path / NEWEST / "1" / "meta" / "metadata"
    path.write_text(re.sub(r', "sets": \{[^{}]*\}', "", path.read_text()))
    assert "rooms" not in path.read_text() and start("boxes") == {}
