"""What a run leaves and says when it ends early: data or evaluation that fail, errors, Ctrl-C."""

import json
import logging
import re
import signal
import types

import jax
import numpy as np
import pytest

import train
from data.box import BoxSource
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.evaluation.records import check_no_training
from mvdust3r_jax.training import endings
from mvdust3r_jax.training.checkpoint_folder import CheckpointFolder
from mvdust3r_jax.training.initial import initial_variables
from mvdust3r_jax.training.judge import Judge
from mvdust3r_jax.training.keeper import Keeper
from mvdust3r_jax.training.preemption import Preemption
from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.skipped import SkippedSteps
from tests.train_test import smallest, stored_state


@pytest.fixture(scope="module")
def prepared():
    """The programs of the smallest config: compiled once for all tests in here."""
    return train.prepare(smallest())


@pytest.fixture(autouse=True)
def prepared_once(prepared, monkeypatch):
    """Runs take the programs above."""
    monkeypatch.setattr(train, "prepare", lambda config, fresh: prepared)


def run(workdir, **fields):
    """Trains without checkpoints on the way, unless a field says so."""
    config = smallest()
    config.update({"checkpoint_every": 0, "stop_step": 3} | fields)
    return train.train(config, workdir)


def saved(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_data_that_fail_cost_no_step(tmp_path, monkeypatch):
    """The steps before are saved; the next start takes the same batch, and ends bit-identical."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    run(whole)
    read = BoxSource.__next__

    def fails(self):
        if self.get_state()["next"] == 2:
            self.set_state({"next": 7})
            raise OSError("the disk is gone")
        return read(self)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        patch.setattr(BoxSource, "__next__", fails)
        run(half)
    assert saved(half / "checkpoints") == [2]
    run(half)
    states = [stored_state(folder, 3) for folder in (whole, half)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_an_evaluation_that_fails_costs_no_step_and_is_made_at_the_next_start(
    tmp_path, monkeypatch
):
    """Its step is saved; the next start evaluates it, once in the log, and keeps the best."""

    def fails(*_, **__):
        raise MemoryError("too many views")

    fields = {"checkpoint_every": 2, "eval_every": 2, "eval_batches": 1}
    with monkeypatch.context() as patch, pytest.raises(MemoryError, match="too many views"):
        patch.setattr(Judge, "_draw", fails)
        run(tmp_path, pictures_every=2, **fields)
    assert saved(tmp_path / "checkpoints") == [2] and not saved(tmp_path / "best")
    run(tmp_path, **fields)
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "eval_held_out"] == [2, 3]
    assert saved(tmp_path / "best") in ([2], [3])


def test_a_state_that_is_lost_hides_no_error(tmp_path, prepared, monkeypatch, caplog):
    """A step that fails has given its state away: the log says so, the error is the step's."""

    def fails(state, _):
        jax.tree.map(lambda x: x.delete(), state)
        raise ValueError("the step's own error")

    broken = prepared.replace(step=fails)
    monkeypatch.setattr(train, "prepare", lambda config, fresh: broken)
    with pytest.raises(ValueError, match="the step's own error"):
        run(tmp_path)
    assert "newest state could not be saved" in caplog.text


def last_word(capfd, workdir, config=None, flags=()):
    """What ``train.py`` ends with, and what it has printed before that."""
    options = {"coordinator": "", "distributed": False, "profile": "", "profiler_port": 0}
    options |= {"config": config or smallest(), "workdir": str(workdir), "allow_changes": False}
    with pytest.raises(SystemExit) as ended:
        train.main(types.SimpleNamespace(**options | dict(flags)))
    # Python prints such a code last, and ends with 1.
    word = ended.value.code
    assert isinstance(word, str) and word.startswith("error: ") and "\n" not in word
    return word, capfd.readouterr().err


NO_DATA = {"data.source": "records", "data.mixture": (("/none", 1.0),)}


@pytest.mark.parametrize(
    "fields, flags, told",
    [
        ({"stop_step": -1}, {}, "stop_step must lie in 0..total_steps"),
        (NO_DATA, {}, "/none"),
        ({}, {"profile": "3"}, "--profile must be FIRST:LAST"),
        ({}, {"workdir": ""}, "a path is expected"),
    ],
)
def test_what_set_up_refuses_is_one_line(tmp_path, capfd, fields, flags, told):
    """Without a traceback."""
    config = smallest()
    config.update_from_flattened_dict(fields)
    word, before = last_word(capfd, tmp_path, config, flags)
    assert re.search(told, word) and "Traceback" not in before


def test_a_workdir_or_weights_that_are_not_there_are_refused_in_one_line(
    tmp_path, capfd, monkeypatch
):
    """A file as workdir; ``init_from`` of a file that is nowhere, before a network is made."""
    (tmp_path / "file").write_text("")
    word, before = last_word(capfd, tmp_path / "file")
    assert word.startswith("error: workdir: ") and "Traceback" not in before

    def begin(config, fresh):
        size = {"height": 16, "width": 16, "seed": 0}
        model = MVDust3r(VARIANTS[config.variant])
        return initial_variables(model, **size, init_from=config.init_from)

    monkeypatch.setattr(MVDust3r, "init", None)
    monkeypatch.setattr(train, "prepare", begin)
    config = smallest()
    config.init_from = "nope.pth"
    word, before = last_word(capfd, tmp_path / "run", config)
    assert "there are no weights 'nope.pth'" in word and "Traceback" not in before


def test_a_checkpoint_of_another_state_is_refused_in_one_line(
    tmp_path, capfd, prepared, monkeypatch
):
    """As after another ``average_decay``."""
    run(tmp_path, stop_step=2)
    other = prepared.replace(state=prepared.state.replace(average={}))
    monkeypatch.setattr(train, "prepare", lambda config, fresh: other)
    word, before = last_word(capfd, tmp_path)
    assert "holds another state than this run's" in word and "Traceback" not in before


def test_an_error_of_a_step_has_its_traceback_and_then_its_reason(
    tmp_path, capfd, prepared, monkeypatch
):
    """Not the note that JAX puts behind errors of compiled functions."""

    def wrong(state, _):
        raise ValueError("shapes do not fit\nas they are")

    broken = prepared.replace(step=jax.jit(wrong))
    monkeypatch.setattr(train, "prepare", lambda config, fresh: broken)
    word, before = last_word(capfd, tmp_path)
    assert word == "error: ValueError: shapes do not fit"
    assert "Traceback" in before and "as they are" in before


def test_a_device_without_memory_is_told_what_to_change_in_the_last_line(capfd):
    """Behind what the device said."""
    word = endings.reason(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 12 GiB\nwanted"))
    assert word.startswith("error: the device ran out of memory") and "\n" not in word
    assert "12 GiB" in capfd.readouterr().err


def test_a_full_disk_is_no_lack_of_memory(capsys):
    """Both have the same status."""
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x.pb; No space left on device")
    assert "No space left" in endings.reason(error) and "batch_size" not in endings.reason(error)


def test_the_last_step_is_evaluated_and_may_be_the_best(tmp_path):
    """Also where evaluation is not due."""
    run(tmp_path, eval_every=2, eval_batches=1)
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "eval_held_out"] == [2, 3]


def test_a_signal_during_a_save_costs_no_evaluation(tmp_path, monkeypatch):
    """It came behind the step: the run ends with the next one."""
    newest = Keeper.newest

    def signaled(self, step, state):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        newest(self, step, state)

    monkeypatch.setattr(Keeper, "newest", signaled)
    fields = {"checkpoint_every": 2, "eval_every": 2, "eval_batches": 1, "stop_step": 8}
    assert run(tmp_path, **fields) == train.INTERRUPTED
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "eval_held_out"] == [2]
    assert saved(tmp_path / "checkpoints") == [2, 3]


def test_records_of_an_evaluation_are_not_replaced(tmp_path):
    """Training into its folder is refused, and evaluating into a run's."""
    (tmp_path / "eval.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("records")
    with pytest.raises(RunError, match="holds an evaluation"):
        run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "records"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="workdir of a training run"):
        check_no_training(tmp_path / "run")


def test_a_save_that_fails_in_the_background_is_told_in_the_log(tmp_path, monkeypatch):
    """The record that it had begun is followed by one that says so."""
    wait, lost = CheckpointFolder.wait, []

    def fails(self):
        if self.name == "checkpoints" and self._latest == 2 and not lost:
            lost.append(wait(self))
            return False
        return wait(self)

    monkeypatch.setattr(CheckpointFolder, "wait", fails)
    run(tmp_path, checkpoint_every=2)
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [(r["step"], r["saved"]) for r in records if r["kind"] == "checkpoint"]
    assert told == [(2, True), (2, False), (3, True)]


def test_a_run_that_stands_at_its_end_or_behind_says_so(tmp_path, caplog):
    """An earlier ``stop_step`` than before does not look like a run that has just ended there."""
    run(tmp_path, stop_step=2)
    for end in (2, 1):
        caplog.clear()
        with caplog.at_level(logging.INFO, "absl"):
            assert run(tmp_path, stop_step=end) == train.FINISHED
        assert f"nothing is left to do: step 2 is saved, the last one is {end}" in caplog.text
    assert saved(tmp_path / "checkpoints") == [2]


@pytest.fixture
def heard():
    """Ctrl-C is not ignored, as it is where somebody runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_the_first_ctrl_c_saves_and_the_second_ends_at_once(tmp_path, monkeypatch):
    """As SIGTERM does, with its code and without evaluating first; outside it is what it was."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    keep = SkippedSteps.keep

    def pressed(self, step, *rest):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        keep(self, step, *rest)

    monkeypatch.setattr(SkippedSteps, "keep", pressed)
    assert run(tmp_path, eval_every=2, eval_batches=1) == train.INTERRUPTED
    assert saved(tmp_path / "checkpoints") == [2] and not saved(tmp_path / "best")
    with pytest.raises(KeyboardInterrupt), Preemption() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.after(1)
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_warnings_of_batch_systems_end_a_run_too(number):
    """Unless somebody has another use for them; outside they are what they were."""
    other = signal.signal(number, signal.SIG_DFL)
    try:
        with Preemption() as stop:
            assert not stop.after(1)
            signal.raise_signal(number)
            assert stop.after(2)
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with Preemption() as stop:
            signal.raise_signal(number)
            assert not stop.after(1)
    finally:
        signal.signal(number, other)
