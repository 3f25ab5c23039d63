"""The metric log: one record a step, also after a resume; numbers that JSON cannot hold."""

import errno
import json
import struct

import jax.numpy as jnp
import numpy as np
from tensorboardX.proto.event_pb2 import Event

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


def test_records_of_a_run_whose_checkpoints_are_gone_are_kept(tmp_path):
    """A run that begins anew leaves them under another name; those of lost first steps go."""
    for kept, kind in ((0, "train"), (1, "checkpoint"), (2, "eval_held_out")):
        log = MetricLog(tmp_path, 0, tensorboard=False)
        log.event(4, kind)
        log.close()
        log = MetricLog(tmp_path, 0, tensorboard=False)
        log.event(1, "train")
        log.close()
        assert [r["step"] for r in records(tmp_path)] == [1]
        assert len(list(tmp_path.glob("metrics.earlier*.jsonl"))) == kept


def test_damaged_lines_are_passed_over(tmp_path):
    """Bytes that are no UTF-8, and JSON that is no record."""
    lines = [b'{"step": 1}', b"null", b"\xff\xfe", b'{"step": 2}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    MetricLog(tmp_path, 2, tensorboard=False).close()
    assert [r["step"] for r in records(tmp_path)] == [1, 2]


def test_readers_of_the_board_drop_what_is_taken_again_alone(tmp_path):
    """They drop events from the step that a start names on: the first one behind the resume's."""
    for first_step in (0, 4):
        log = MetricLog(tmp_path, first_step, tensorboard=True)
        log.scalars(first_step + 1, {"loss": 1.0})
        log.close()
    files = (tmp_path / "tensorboard").iterdir()
    started = [event.step for file in files for event in events(file) if event.session_log.status]
    assert sorted(started) == [1, 5]


def events(path):
    """Of TensorBoard's format: length, checksum, event, checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size
