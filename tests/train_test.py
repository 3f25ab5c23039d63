"""The loop from outside: exact resume, signals, non-finite runs, configs that do not fit."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import train
from configs import tiny
from data.box import BoxSource
from mvdust3r_jax import VARIANTS
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.skipped import NonFiniteError
from mvdust3r_jax.weights.files import load_weights
from tests.xla_flags import xla_flags

ROOT = Path(__file__).parents[1]


STEPS = 8


def smallest():
    """The tiny config, smaller: 8 steps without rendering, a checkpoint every second one.

    ``start`` has the same settings, so that all tests of a run share the compiled programs.
    """
    config = tiny.get_config()
    config.data.num_inputs, config.data.num_targets, config.num_refs = (2,), 0, 1
    config.data.height = config.data.width = 16
    config.total_steps, config.stop_step, config.warmup_steps = 100_000, STEPS, 2
    config.checkpoint_every = 2
    config.eval_every = config.pictures_every = 0
    config.log_every = 1
    config.average_decay = 0.9
    config.tensorboard = False
    return config


def start(workdir, cache, **overrides):
    """``train.py`` with the smallest config as a process of its own."""
    fields = {"data.num_inputs": "(2,)", "data.num_targets": 0, "num_refs": 1}
    fields |= {"data.height": 16, "data.width": 16, "warmup_steps": 2}
    fields |= {"total_steps": 100_000, "stop_step": STEPS}
    fields |= {"checkpoint_every": 2, "eval_every": 0, "pictures_every": 0, "log_every": 1}
    fields |= {"average_decay": 0.9, "tensorboard": False} | overrides
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    environment = os.environ | {"XLA_FLAGS": xla_flags(8), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "train.py", "--config", "configs/tiny.py", "--workdir", str(workdir)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(workdir, step, process):
    """Returns once the log holds a training step of at least this number."""
    path = workdir / "metrics.jsonl"
    for _ in range(6000):
        if process.poll() is not None:
            pytest.fail(process.stdout.read()[-3000:])
        lines = path.read_text().splitlines() if path.exists() else []
        if any(json.loads(x)["step"] >= step for x in lines if x.endswith("}")):
            return
        time.sleep(0.05)
    pytest.fail(f"step {step} was not reached")


def final_state(workdir):
    return stored_state(workdir, STEPS)


def stored_state(workdir, step):
    """All arrays of a checkpoint, as orbax stores them."""
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


@pytest.fixture(scope="module")
def prepared():
    """The programs of the smallest config: compiled once for all tests that train in here."""
    return train.prepare(smallest())


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    """Work folder of a run of this process that was never stopped, and a compilation cache."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or tmp_path_factory.mktemp("cache")
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "prepare", lambda config, fresh: prepared)
        assert train.train(smallest(), workdir) == train.FINISHED
    return workdir, cache


@pytest.mark.slow
def test_killed_and_stopped_run_ends_bit_identical(uninterrupted, prepared_once, tmp_path, caplog):
    """SIGKILL, then stop_step: the third start ends with the very same bits, a fourth at once.

    The whole run and the fourth start are in this process, the others have their own.
    """
    whole, cache = uninterrupted
    process = start(tmp_path, cache)
    wait_for_step(tmp_path, 3, process)
    process.kill()
    process.communicate()
    for fields, steps in (({"stop_step": 5}, 5), ({}, STEPS)):
        process = start(tmp_path, cache, **fields)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output[-3000:]
        assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == steps
    with caplog.at_level(logging.INFO, "absl"):
        assert train.train(smallest(), tmp_path) == train.FINISHED
    assert f"going on after step {STEPS}" in caplog.text and "other settings" not in caplog.text
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(whole))
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_its_own_code(uninterrupted, tmp_path):
    """Preemption: the step that runs is finished and saved, the run can go on, and scripts know."""
    process = start(tmp_path, uninterrupted[1], stop_step=0, checkpoint_every=0)
    wait_for_step(tmp_path, 3, process)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == train.INTERRUPTED, output[-3000:]
    assert time.monotonic() - started < 60
    steps = [int(p.name) for p in (tmp_path / "checkpoints").iterdir()]
    assert len(steps) == 1 and steps[0] >= 3
    assert f"saved after step {steps[0]}" in output


@pytest.mark.slow
def test_a_run_can_be_loaded_as_weights(uninterrupted):
    """The averaged parameters of a work folder are what users get."""
    config, variables = load_weights(uninterrupted[0])
    average = final_state(uninterrupted[0])["average"]
    assert config.enc_dim == VARIANTS["tiny"].enc_dim
    jax.tree.map(np.testing.assert_array_equal, dict(variables["params"]), average)


@pytest.fixture
def prepared_once(prepared, monkeypatch):
    """Runs take the programs above."""
    monkeypatch.setattr(train, "prepare", lambda config, fresh: prepared)


class BadFromThird(BoxSource):
    """Batches whose images are NaN from the third on."""

    def __next__(self):
        bad = self.get_state()["next"] >= 2
        batch, info = super().__next__()
        return (batch.replace(images=batch.images * np.nan) if bad else batch), info


@pytest.mark.slow
def test_run_of_non_finite_steps_stops_with_its_story(prepared_once, tmp_path, monkeypatch):
    """Step, terms and example ids are told; a checkpoint from before is left."""
    config = smallest()
    config.max_skipped_in_row = 3
    config.checkpoint_every = 0
    settings = {"num_targets": 0, "height": 16, "width": 16, "seed": 0, "num_inputs": (2,)}
    monkeypatch.setattr(train, "make_source", lambda **_: BadFromThird(batch_size=8, **settings))
    with pytest.raises(NonFiniteError, match=r"3 steps .* step 5; .*'loss': 'nan'.*box/"):
        train.train(config, tmp_path)
    _, variables = load_weights(tmp_path)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(r["kind"] == "skipped" for r in records) == 3
    # Step 5's numbers are seen when step 6 has run: the checkpoint is of step 6.
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()] == [6]


def test_a_lost_last_checkpoint_is_no_success(prepared_once, tmp_path, monkeypatch):
    """A disk that fills up at the end: the run goes on to it, and then says what is left."""
    config = smallest()
    config.stop_step, config.checkpoint_every = 2, 1
    save = train.Checkpoints.save

    def full_at_two(self, step, *args, **options):
        return step < 2 and save(self, step, *args, **options)

    monkeypatch.setattr(train.Checkpoints, "save", full_at_two)
    with pytest.raises(RunError, match="last step, 2, could not .* is of step 1"):
        train.train(config, tmp_path)


@pytest.mark.parametrize("source", ["box", "rooms"])
def test_every_field_of_data_has_a_reader(source):
    """A source made while training opens with the default fields; stored ones have more to read."""
    config = smallest()
    config.data.source = source
    assert train.open_data(config)[0].get_state()["next"] == 0
