"""Plots of an evaluation: what has no value takes no panel, what has no error hides no other."""

import pytest

from mvdust3r_jax.evaluation import plots

pytest.importorskip("matplotlib")


def panel(name, means):
    """The panel of a number; means: of each method at two views, then at four."""
    _, ax = plots._pyplot().subplots()
    rows = [
        {
            "method": method,
            "views": views,
            "numbers": {} if mean is None else {name: dict.fromkeys(("mean", "low", "high"), mean)},
        }
        for method, found in means.items()
        for views, mean in zip((2, 4), found, strict=True)
    ]
    plots._curve(ax, rows, name, name, 1.0)
    return ax


def test_a_number_that_no_method_has_takes_no_panel():
    """PSNR, of an evaluation without new views."""
    assert not panel("psnr_db", {"mvd": (None, None)}).axison
    assert panel("psnr_db", {"mvd": (None, None), "points": (20.0, 21.0)}).axison


def test_the_oracle_does_not_press_others_together():
    """Its errors are rounding: the axis ends above them."""
    low, high = panel("nd", {"oracle": (1e-7, 0.0), "mvd": (0.2, 0.3)}).get_ylim()
    assert low == 1e-2 and 0.3 < high < 1
    assert panel("nd", {"mvd": (0.2, 0.3)}).get_ylim()[0] > 0.1
