"""The recipes of docs/extending.md, followed as they stand there."""

import functools
import re
import textwrap
from pathlib import Path

import pytest

from configs import build, defaults
from data import training_batches
from data.box import BoxSource
from mvdust3r_jax.evaluation import methods, report, scores
from mvdust3r_jax.evaluation.plan import Options, make_plan
from mvdust3r_jax.evaluation.runner import Evaluation, write_report
from tests.evaluation.boxes import box_set, tiny_network

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def page():
    """What the page's examples define."""
    names = {}
    for block in re.findall(r"^( *)```python\n(.*?)^ *```", PAGE.read_text(), re.M | re.S):
        exec(compile(textwrap.dedent(block[1]), PAGE.name, "exec"), names)
    return names


class ShiftedSource(BoxSource):
    """Boxes, and a field of its own."""

    def __init__(self, *, shift, **fields):
        self.shift = shift
        super().__init__(**fields)


def test_a_data_source_is_added_as_the_page_says(page, monkeypatch):
    """One row: it gets its own field and none that it does not take; other sources refuse it."""
    kind = page["kind"]._replace(place=f"{__name__}.ShiftedSource")
    monkeypatch.setitem(training_batches.SOURCES, "shifted", kind)
    config = defaults.get_config()
    with config.data.unlocked():
        config.data.update({"shift": 0.5, "height": 16, "width": 16})
    opened = functools.partial(training_batches.make_source, process_index=0, process_count=1)
    source = opened(**build.data_settings(config, source="shifted"))
    batch, _ = next(source)
    assert source.shift == 0.5 and batch.images.shape[2:4] == (16, 16)
    assert opened(**build.data_settings(config, source="box", shift=0.0))
    with pytest.raises(ValueError, match="data.shift is for data.source 'shifted', got 'box'"):
        opened(**build.data_settings(config, source="box"))


def test_a_metric_and_a_method_are_added_as_the_page_says(page, monkeypatch, tmp_path):
    """Two places for the metric, one for the method; both are in the table."""
    monkeypatch.setattr(scores, "GEOMETRY", (*scores.GEOMETRY, page["worst_view_numbers"]))
    monkeypatch.setattr(report, "COLUMNS", (*report.COLUMNS, page["column"]))
    monkeypatch.setitem(methods.METHODS, "blind", page["row"])
    plan = make_plan(
        ["mvd", "blind"], [box_set()], [(4, 0)], network=tiny_network(), options=Options(devices=1)
    )
    Evaluation(plan, tmp_path).run()
    head, *rows = [x for x in write_report(tmp_path, plan).splitlines() if x.startswith("|")][:4]
    assert "ND worst view m" in head
    cells = {row.split(" | ")[0]: row.split(" | ") for row in rows}
    column = head.split(" | ").index("ND worst view m")
    worst, nd = (cells["| blind"][i].split()[0] for i in (column, head.split(" | ").index("ND m")))
    assert float(worst) >= float(nd) > 0
    assert cells["| blind"][3:] != cells["| mvd"][3:]
