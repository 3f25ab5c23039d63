"""Steps that were not finite are told when the next one runs; too many in a row are an error."""

import numpy as np
import pytest

from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.skipped import NonFiniteError, SkippedSteps


def numbers(in_row):
    return {"skipped_in_row": np.float32(in_row), "loss": np.float32(np.nan if in_row else 1)}


def test_too_many_in_a_row_end_the_run_with_their_story(tmp_path):
    """Step, terms and examples are in the error; each skipped step is a record, no other one."""
    log = MetricLog(tmp_path, 0, tensorboard=False)
    skipped = SkippedSteps(log, most_in_row=2)
    skipped.look()  # there is none yet
    for step, in_row in ((1, 1), (2, 0), (3, 1)):
        skipped.keep(step, numbers(in_row), {"ids": ["a"]})
        skipped.look()
        skipped.look()  # a step is told once
    skipped.keep(4, numbers(2), {"ids": ["b"]})
    with pytest.raises(NonFiniteError, match=r"2 steps .* step 4; .*'loss': 'nan'.*\['b'\]"):
        skipped.look()
    log.close()
    steps = [line for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 3 and all('"kind": "skipped"' in line for line in steps)
