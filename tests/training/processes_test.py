"""An error of one process in set-up is told to all; groups of processes by name."""

import json

import numpy as np
import pytest

from mvdust3r_jax.training import processes
from mvdust3r_jax.training.one_run import alone_in
from mvdust3r_jax.training.processes import RunError, is_refusal, set_up, who


@pytest.mark.parametrize(
    "error, told",
    [
        (ValueError("the config\n  does not fit"), "the config does not fit"),
        (FileNotFoundError("there are no weights"), "there are no weights"),
        (PermissionError(13, "Permission denied", "/a"), r"data: .*Permission denied: '/a'"),
        (ValueError(), "ValueError: "),
    ],
)
def test_what_set_up_refuses_is_told_in_one_line(error, told):
    """What the system says stands behind what was done."""
    with pytest.raises(RunError, match=f"^{told}$") as caught, set_up("data"):
        raise error
    assert caught.value.__cause__ is error


def test_the_program_s_own_errors_stay_as_they_are():
    """With their traceback; the other processes are told all the same."""
    error = KeyError("a")
    with pytest.raises(KeyError) as caught, set_up("data"):
        raise error
    assert caught.value is error


@pytest.fixture
def others(monkeypatch):
    """Two more processes, of which each ends its part of set-up as a text says, '' for well."""
    texts = []
    monkeypatch.setattr(processes, "meet", lambda what, limit_s: None)
    monkeypatch.setattr(processes, "gather", lambda value: [value, *texts])
    return texts


def test_what_fails_elsewhere_is_an_error_here(others):
    """With the process's index, but for what all of them say alike."""
    others[:] = ["", "no such folder"]
    with pytest.raises(RunError, match="^process 2: no such folder$"), set_up("data"):
        pass
    with pytest.raises(RunError, match="^processes 0, 2: no such folder$"), set_up("data"):
        raise ValueError("no such folder")
    others[:] = ["no such folder"] * 2
    with pytest.raises(RunError, match="^no such folder$"), set_up("data"):
        raise ValueError("no such folder")
    others[:] = ["", ""]
    with set_up("data"):
        pass


def test_a_reason_is_not_lost_where_the_others_never_come(monkeypatch):
    """What failed here stands before who is missing."""

    def late(what, limit_s):
        raise RunError(f"{what}: not all 2 processes came")

    monkeypatch.setattr(processes, "meet", late)
    with (
        pytest.raises(RunError, match="^no such folder; data: not all 2") as caught,
        set_up("data"),
    ):
        raise ValueError("no such folder")
    assert str(caught.value.__cause__) == "no such folder"
    with pytest.raises(RunError, match="^data: not all 2"), set_up("data"):
        pass


def test_a_mistake_of_the_program_is_no_refusal():
    """Raised by a library inside of it, though a ValueError as those that refuse something are."""

    def refused():
        raise ValueError("no such folder")

    def broken():
        np.zeros(3) + np.zeros(4)

    told = []
    for call in (refused, broken, lambda: json.loads("{")):
        with pytest.raises(ValueError) as caught:
            call()
        told.append(is_refusal(caught.value))
    assert told == [True, False, False]


def test_a_workdir_that_cannot_be_one_is_refused(tmp_path):
    """A file, and a folder in a file."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"^workdir: .*file"), alone_in(folder):
            pass


@pytest.mark.parametrize(
    "indices, told",
    [
        ([1], "process 1"),
        ([0, 1], "processes 0, 1"),
        ([0, 2, 3, 4, 9], "processes 0, 2-4, 9"),
    ],
)
def test_processes_are_named_in_runs(indices, told):
    """So that 63 of 64 stay readable."""
    assert who(indices) == told
