"""Hosts that differ in what a run means are refused, whatever a host may have for itself."""

import json

import jax
import jax.numpy as jnp
import optax
import pytest

from configs import tiny
from mvdust3r_jax.training import alike, processes
from mvdust3r_jax.training.state import StepConfig, init_state

HOSTS = 3


@pytest.fixture
def hosts(monkeypatch):
    """Three processes one after the other: what they would gather is gathered at the end."""
    told = []
    monkeypatch.setattr(jax, "process_count", lambda: HOSTS)
    monkeypatch.setattr(processes, "meet", lambda what, limit_s: None)
    monkeypatch.setattr(processes, "gather", lambda value: told.append(value) or [value] * HOSTS)

    def compare(*calls):
        """What all of them are told when host i makes the i-th call, '' for nothing."""
        told.clear()
        for call in calls:
            call()
        gathered = list(told)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "gather", lambda value: gathered)
            try:
                calls[0]()
            except processes.RunError as error:
                return str(error)
        return ""

    return compare


def settings(allow_changes=False, **fields):
    config = tiny.get_config()
    config.unlock()
    config.update_from_flattened_dict(fields)
    text = config.to_json_best_effort()
    return lambda: alike.check_settings(text, allow_changes=allow_changes)


def test_other_settings_of_one_host_are_named(hosts):
    """Fields, values and processes, in one line; also of sets to evaluate on and of options."""
    assert hosts(settings(), settings(), settings()) == ""
    changed = {"peak_lr": 0.5, "eval.held_out.split": "test", "data.options": {"size": 3.0}}
    said = hosts(settings(), settings(**changed), settings())
    assert said == (
        "all processes must have the same settings, but "
        "data.options.size: nothing (processes 0, 2), 3.0 (process 1); "
        'eval.held_out.split: "validation" (processes 0, 2), "test" (process 1); '
        "peak_lr: 0.001 (processes 0, 2), 0.5 (process 1)"
    )
    said = hosts(settings(), settings(), settings(allow_changes=True))
    assert said.endswith("--allow_changes: false (processes 0, 1), true (process 2)")


def test_the_order_of_sets_counts_and_much_is_cut_short(hosts):
    """The first set decides which state is the best."""
    first, second = {"a": {}, "b": {}}, {"b": {}, "a": {}}
    said = hosts(settings(eval=first), settings(eval=second), settings(eval=first))
    assert 'eval[0]: "a" (processes 0, 2), "b" (process 1)' in said
    other = {f"data.options.{n}": n for n in "abcdefghijk"}
    assert hosts(settings(), settings(**other), settings()).endswith("; and 3 more")


def test_where_files_lie_and_how_they_are_read_is_a_host_s_own(hosts):
    """A data set of another name is another one."""
    here = {"data.mixture": (("/mnt/a/rooms", 1.0),), "init_from": "a.pth", "data.threads": 1}
    there = {"data.mixture": (("/b/rooms", 1.0),), "data.read_ahead": 9, "data.prefetch": 3}
    assert hosts(settings(**here), settings(**there), settings(**there)) == ""
    other = {"data.mixture": (("/mnt/a/views", 1.0),)}
    assert "data.mixture" in hosts(settings(**here), settings(**other), settings(**here))


def test_other_code_is_told_by_its_content(hosts, monkeypatch, tmp_path):
    """Of all folders that a run takes code from; what is no package of it may be anything."""
    for name in alike.CODE:
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "a.py").write_text("x = 1")
        (tmp_path / name / "inner" / "__init__.py").write_text("")
    monkeypatch.setattr(alike, "__file__", str(tmp_path / "mvdust3r_jax" / "training" / "alike.py"))
    same = settings()

    def with_other(text):
        def check():
            (tmp_path / "data" / "inner" / "a.py").write_text(text)
            same()
            (tmp_path / "data" / "inner" / "a.py").write_text("x = 1")

        return check

    assert hosts(same, same, same) == ""
    said = hosts(same, with_other("x = 2"), same)
    assert "code of data/: " in said and "mvdust3r_jax" not in said
    photographs = tmp_path / "data" / "photographs"
    photographs.mkdir()
    (photographs / "b.py").write_text("")
    assert alike._digest_of_files(tmp_path / "data") == alike._digest_of_files(tmp_path / "configs")


def test_of_many_data_sets_the_one_that_differs_is_told(hosts):
    """Seven digests are longer than what is told of a value."""
    seven = [f"{n:016d}" for n in range(7)]
    other = [*seven[:5], "other", *seven[6:]]

    def data(made_from):
        return lambda: alike.check_data(Data(made_from), {})

    said = hosts(data(seven), data(seven), data(other))
    assert 'made_from[5]: "0000000000000005" (processes 0, 1), "other" (process 2)' in said


class Data:
    """Stored data, made from what ``made_from`` stands for."""

    epoch_samples = 20

    def __init__(self, made_from):
        self._state = {"next": 0, "made_from": made_from}

    def get_state(self):
        return self._state


def test_data_of_the_same_name_that_were_built_otherwise_are_refused(hosts):
    """By what the data say of themselves; sets to evaluate on, too."""

    def data(made_from, samples=6):
        return lambda: alike.check_data(Data([made_from]), {"a": {"samples": samples}})

    assert hosts(data("a"), data("a"), data("a")) == ""
    said = hosts(data("a"), data("a"), data("b"))
    assert 'position.made_from[0]: "a" (processes 0, 1), "b" (process 2)' in said
    said = hosts(data("a"), data("a", 5), data("a"))
    assert said.endswith("the same data, but eval.a.samples: 6 (processes 0, 2), 5 (process 1)")


def test_one_bit_of_the_first_weights_is_seen(hosts):
    """In any array; the message says what decides about them."""
    optimizer = optax.sgd(1.0)

    def weights(value):
        variables = {"params": {"a": jnp.zeros(3), "b": jnp.full(2, value)}}
        state = init_state(variables, optimizer, StepConfig(), seed=0)
        return lambda: alike.check_weights(state)

    assert hosts(weights(1.0), weights(1.0), weights(1.0)) == ""
    said = hosts(weights(1.0), weights(1.0), weights(1.0 + 2**-23))
    assert "initial weights (of config.seed and init_from), but digest: " in said
    assert "(processes 0, 1)" in said and "(process 2)" in said


def test_alone_nothing_is_compared(monkeypatch):
    """A run of one process reads neither its code nor its weights again."""
    monkeypatch.setattr(alike, "digest", pytest.fail)
    monkeypatch.setattr(alike, "_code", pytest.fail)
    alike.check_settings(json.dumps({}), allow_changes=False)
    alike.check_weights(None)
