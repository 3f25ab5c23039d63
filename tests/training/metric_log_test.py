"""The metric log: one record a step, also after a resume; numbers that JSON cannot hold."""

import errno
import json

import jax.numpy as jnp
import numpy as np

from mvdust3r_jax.training import metric_log, tensorboard
from mvdust3r_jax.training.metric_log import MetricLog


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
        disk.setattr(tensorboard.Board, "_append", full)
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
