"""What the loop tells of its steps: rates of an interval, means of its numbers, compilations."""

import json
import time

import jax
import numpy as np

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.progress import CompileCounter, Progress, Report, interval_means
from mvdust3r_jax.training.rates import Cost


def test_progress_counts_since_the_last_report():
    """Examples and waiting of one interval do not leak into the next."""
    progress = Progress(10, 100)
    progress.count(8, 0.0)
    progress.count(8, 0.0)
    first = progress.report(12)
    assert first["examples_per_s"] > 0
    assert first["eta_s"] >= 88 * first["step_time_s"] * 0.99
    assert progress.report(13)["examples_per_s"] == 0


def test_a_steps_time_is_without_compiling_evaluating_and_saving():
    """0.3 s of two steps' 0.4 s are something else's; the next interval starts afresh."""
    progress = Progress(0, 10)
    with progress.aside():
        time.sleep(0.2)
    time.sleep(0.1)
    progress.exclude(0.1)
    report = progress.report(2)
    assert report["step_time_s"] < 0.06
    assert report["eta_s"] == 8 * report["step_time_s"]
    time.sleep(0.1)
    assert progress.report(3)["step_time_s"] >= 0.1


def test_numbers_are_means_of_the_interval():
    """Steps that were not finite are left out; counters and the learning rate are the last ones."""
    steps = [
        {"loss": np.float32(loss), "skipped": np.float32(skipped), "learning_rate": np.float32(lr)}
        for loss, skipped, lr in ((1, 0, 0.1), (np.nan, 1, 0.2), (3, 1, 0.3))
    ]
    means = interval_means(steps)
    assert means["loss"] == 2 and means["skipped"] == 1
    assert means["learning_rate"] == np.float32(0.3)
    assert np.isnan(interval_means(steps[1:2])["loss"])


def test_compilations_are_counted():
    """A new shape counts, the same shape does not."""
    counter = CompileCounter()
    double = jax.jit(lambda x: 2 * x)
    double(np.ones(3))
    once = counter.count
    assert once >= 1
    double(np.ones(3))
    assert counter.count == once
    double(np.ones(4))
    assert counter.count > once


def test_report_writes_means_every_second_step_and_compilations_at_once(tmp_path):
    """Steps 1 to 4, one compiled before the third; nothing is kept of an earlier interval.

    What is left at the last step is written with it.
    """
    log, compiles = MetricLog(tmp_path, 0, tensorboard=False), CompileCounter()
    cost = Cost(VARIANTS["tiny"], num_refs=2, num_targets=0)
    report = Report(log, compiles, first_step=0, last_step=9, every=2, cost=cost)
    for step in range(1, 5):
        with report.waiting():
            pass
        with report.stepping():
            compiles.count += step == 3
        report.after(step, {"loss": np.float32(step)}, 8, (8, 2, 16, 16, 3))
    report.after(5, {"loss": np.float32(5)}, 8, (8, 2, 16, 16, 3), last=True)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    kinds = [(2, "train"), (3, "compile"), (4, "train"), (5, "train")]
    assert [(x["step"], x["kind"]) for x in lines] == kinds
    assert [x["loss"] for x in lines if "loss" in x] == [1.5, 3.5, 5]
    assert [x["examples"] for x in lines if "loss" in x] == [16, 16, 8]
    assert lines[1]["images"] == [8, 2, 16, 16, 3]


def test_a_step_after_a_compilation_elsewhere_is_a_step(tmp_path):
    """What an evaluation between two steps compiles takes nothing from the next one's time."""
    log, compiles = MetricLog(tmp_path, 0, tensorboard=False), CompileCounter()
    cost = Cost(VARIANTS["tiny"], num_refs=2, num_targets=0)
    report = Report(log, compiles, first_step=0, last_step=9, every=1, cost=cost)
    compiles.count += 1
    with report.waiting():
        pass
    with report.stepping():
        time.sleep(0.1)
    report.after(1, {"loss": np.float32(1)}, 8, (8, 2, 16, 16, 3))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step_time_s"] >= 0.1
