"""A run that goes on asks its data to go on, too."""

import pytest

from data.box import BoxSource
from data.mixture import MixedIterator
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.resume import go_on, go_to


def test_a_position_of_another_kind_of_source_is_an_error_of_one_line():
    """Boxes find no position of theirs in that of a mixture."""
    source = BoxSource(batch_size=2, num_inputs=(2,), num_targets=0, height=8, width=8, seed=0)
    with pytest.raises(RunError, match="at step 7 is that of another kind of .* than BoxSource"):
        go_to(source, MixedIterator([source], [1.0], seed=0).get_state(), step=7)


def test_other_data_that_were_allowed_begin_anew(caplog):
    """It is told; a change of something else does not excuse a position that does not fit."""

    class Stored:
        def set_state(self, position):
            raise ValueError("other numbers of views")

    go_on(Stored(), {}, 7, ["data.num_inputs", "peak_lr"])
    assert "first sample: step 7: other numbers of views" in caplog.text
    with pytest.raises(RunError, match="other numbers"):
        go_on(Stored(), {}, 7, ["peak_lr"])


def test_what_a_source_refuses_is_an_error_of_one_line():
    """Its own words, and the step."""

    class Stored:
        def set_state(self, position):
            raise ValueError("the data sets were built anew")

    with pytest.raises(RunError, match="^step 7: the data sets were built anew$"):
        go_to(Stored(), {}, step=7)
