"""The metric log: one record a step, also after a resume; numbers that JSON cannot hold."""

import errno
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from mvdust3r_jax.training import metric_log
from mvdust3r_jax.training.metric_log import CompileCounter, MetricLog, Progress, interval_means


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_resume_drops_what_will_be_repeated(tmp_path):
    """Records after the restored step, and a half-written line, go; the rest stays."""
    log = MetricLog(tmp_path, 0, tensorboard=False)
    for step in range(1, 6):
        log.scalars(step, {"loss": jnp.float32(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    log = MetricLog(tmp_path, 3, tensorboard=False)
    log.scalars(4, {"loss": 0.5})
    log.close()
    assert [(r["step"], r["loss"]) for r in records(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 0.5)]


def test_non_finite_numbers_stay_readable(tmp_path):
    """NaN and infinity are strings, because JSON has neither."""
    log = MetricLog(tmp_path, 0, tensorboard=False)
    log.scalars(1, {"a": float("nan"), "b": float("-inf"), "c": 1.5})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert records(tmp_path)[0] == {"step": 1, "kind": "train", "a": "nan", "b": "-inf", "c": 1.5}
    assert "NaN" not in text


def test_board_gets_scalars_and_pictures(tmp_path):
    """TensorBoard files appear, and pictures are kept as PNG too."""
    log = MetricLog(tmp_path, 0, tensorboard=True)
    log.scalars(1, {"loss": 1.0})
    log.pictures(1, {"panel": np.full((4, 6, 3), 2.0)})
    log.close()
    assert sum(p.stat().st_size for p in (tmp_path / "tensorboard").iterdir()) > 100
    assert (tmp_path / "pictures" / "panel_00000001.png").exists()


def test_a_full_disk_is_reported_and_training_goes_on(tmp_path, monkeypatch, caplog):
    """Nothing is raised; once there is room again records and pictures are written."""
    log = MetricLog(tmp_path, 0, tensorboard=True)
    log.scalars(0, {"loss": 2.0})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(metric_log._Board, "_append", full)
        disk.setattr(metric_log, "whole_file", full)
        log.scalars(1, {"loss": 1.0})
        log.pictures(1, {"panel": np.ones((4, 6, 3))})
    assert caplog.text.count("No space left") == 3
    log.scalars(2, {"loss": 0.5})
    log.pictures(2, {"panel": np.ones((4, 6, 3))})
    log.close()
    assert [r["step"] for r in records(tmp_path)] == [0, 1, 2]
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["panel_00000002.png"]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3


def test_other_processes_write_nothing(tmp_path):
    """Only one process owns the files."""
    log = MetricLog(tmp_path / "run", 0, tensorboard=True, active=False)
    log.scalars(1, {"loss": 1.0})
    log.event(1, "checkpoint")
    log.close()
    assert not (tmp_path / "run").exists()


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
