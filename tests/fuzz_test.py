"""Damaged files of every kind give a result with points, or one line of error."""

import warnings

import pytest

pytest.importorskip("imageio_ffmpeg")


def test_damaged_files_give_a_result_or_one_line():
    """Never a traceback, a fault, a hang, or an output without points."""
    from tests import fuzzing

    with warnings.catch_warnings():
        # Weights and scenes of garbage overflow; warnings are no faults of the command.
        warnings.simplefilter("ignore", RuntimeWarning)
        wrong, counts = fuzzing.fuzz(19, seed=1)
    assert wrong == []
    assert {code for _, code in counts} == {0, 1}
