"""Flags and their values: help, what the parser refuses, names that are made of paths."""

import argparse
import os

import pytest

from mvdust3r_jax import cli
from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared, words
from mvdust3r_jax.reconstruction.arguments import scene_names
from tests.cli.place import run


@pytest.mark.parametrize("command", [[], *[[name] for name in cli.COMMANDS]])
def test_help_has_examples(command, capsys):
    """Every command explains itself."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "mvdust3r" in text and (not command or "examples:\n  mvdust3r" in text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--min-confidence", "nan"],
        ["--min-confidence", "-1"],
        ["--drop", "1"],
        ["--drop", "inf"],
        ["--memory", "inf"],
        ["--memory", "0"],
        ["--focal", "wide"],
        ["--focal", "nan"],
        ["--focal", "-5"],
        ["--max-points", "0"],
        ["--frames", "1.5"],
        ["--size", "0"],
    ],
)
def test_impossible_values_are_refused_by_the_parser(place, tmp_path, capsys, arguments):
    """Exit code 2 and the argument's name, before anything is read."""
    with pytest.raises(SystemExit) as stopped:
        run(place, tmp_path / "none", "--out", tmp_path / "o", *arguments)
    assert stopped.value.code == cli.EXIT_USAGE
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[0]}" in error and "expected, got" in error


@pytest.mark.parametrize(
    "command",
    [["bench", "--views", "abc"], ["bench", "--views", "2,,4"], ["view", "--port", "70000"]],
)
def test_other_commands_refuse_impossible_values(capsys, command):
    """Numbers of views, ports."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == cli.EXIT_USAGE and "expected, got" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_ports_that_are_none_are_refused_by_the_parser(port, capsys):
    """Exit code 2, and the port is named."""
    with pytest.raises(SystemExit) as refused:
        cli.main(["view", f"--port={port}"])
    assert refused.value.code == cli.EXIT_USAGE
    assert repr(port) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("224x320", (224, 320)), ("a", None), ("1x2x3", None)]
)
def test_size_argument(text, size):
    """One number or two."""
    if size:
        assert values.size(text) == size
    else:
        with pytest.raises(Exception, match="224x320"):
            values.size(text)


def test_help_names_the_weights_without_the_variable(monkeypatch, capsys):
    """Not those that the variable names on this machine."""
    monkeypatch.setattr(shared, "DEFAULT_WEIGHTS", "/x/y.pth")
    with pytest.raises(SystemExit):
        cli.main(["view", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"$MVDUST3R_WEIGHTS, else {words.SHIPPED[0]})" in text and "/x/y.pth" not in text


def test_names_stay_apart(tmp_path):
    """Photographs of the same name in two folders get their folder's name, else a number."""
    a, b = tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"
    twice = ["1.jpg", "1.jpg"]
    assert scene_names([a, b], twice) == ["a_1.jpg", "b_1.jpg"]
    assert scene_names([a, a], twice) == ["0000_a_1.jpg", "0001_a_1.jpg"]
    assert scene_names([a], twice[:1]) == ["1.jpg"]


def test_paths_are_taken_as_shells_would(monkeypatch, tmp_path):
    """A home folder that the shell left as it is; an empty variable is not the current folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert values.local_path("~/a b") == tmp_path / "a b"
    assert values.local_path("~backup.jpg").name == "~backup.jpg"
    with monkeypatch.context() as patch, pytest.raises(argparse.ArgumentTypeError, match="home"):
        patch.setattr(os.path, "expanduser", lambda path: path)
        values.local_path("~/a b")
    with pytest.raises(argparse.ArgumentTypeError, match="a path is expected, got ''"):
        values.any_path("")
