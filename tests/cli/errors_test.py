"""Whatever is wrong with what was given is one clear sentence and an exit code."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from mvdust3r_jax import cli
from mvdust3r_jax.cli import inputs, render, view
from mvdust3r_jax.reconstruction.memory import MemoryLimitError
from tests.cli.place import run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{p}/фото é/0 a.png"], 1, "at least 2 photographs are needed, got 1"),
        (["{p}/no.png"], 1, "there is no file or folder"),
        (["{t}"], 1, "holds no images"),
        (["{p}/w.safetensors", "{p}/фото é"], 1, "w.safetensors cannot be read as an image"),
        (["{p}/фото é", "--export", "obj"], 2, "unknown export format 'obj'"),
        (["{p}/фото é", "--size", "20"], 1, "multiples of 8"),
        (["{p}/фото é", "--focal", "exif"], 1, "no EXIF focal length in 0 a.png"),
        (["{p}/фото é", "--masks", "{t}"], 1, "no mask for 0 a.png"),
        (["{p}/фото é", "--cameras", "{t}/c.json"], 1, "c.json"),
        (["{p}/фото é", "--memory", "0.1"], 3, "GiB can be used"),
        (["{p}/фото é", "--min-confidence", "1e9"], 1, "no point is left: 0 of 1,152 points"),
        (["{p}/фото é", "--use", "poses"], 2, "--use poses says what to take from --cameras"),
        (["{p}/фото é", "--window-by", "likeness"], 2, "--window-by likeness is about windows"),
        (["{p}/фото é", "--masks", "{p}/none"], 1, "none, is missing"),
        (["{p}/фото é", "--cameras", "{t}"], 1, "holds no cameras"),
    ],
)
def test_errors_are_one_sentence(place, tmp_path, capsys, arguments, code, message):
    """Exit code and message without a traceback; no output folder is left."""
    (tmp_path / "given").mkdir()
    arguments = [a.format(p=place, t=tmp_path / "given") for a in arguments]
    assert run(place, *arguments, "--out", tmp_path / "out", "--json") == code
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert message in json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err
    assert [p.name for p in tmp_path.iterdir()] == ["given"]


def test_missing_packages_are_told_before_the_network_runs(place, tmp_path, capsys, monkeypatch):
    """Videos without their encoder are refused at once, with what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "ffmpeg" in name else find(name)
    )
    monkeypatch.setattr(inputs, "open_model", lambda *_: pytest.fail("the weights were loaded"))
    arguments = ["--out", tmp_path / "o", "--export", "ply,mp4"]
    assert run(place, place / "фото é", *arguments) == cli.EXIT_INPUT
    error = capsys.readouterr().err
    assert "mp4 needs the package imageio_ffmpeg" in error and "hint: pip install" in error


def test_refining_without_pycolmap_is_refused_at_once(place, tmp_path, capsys, monkeypatch):
    """One line, with what to install."""
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    monkeypatch.setattr(inputs, "open_model", lambda *_: pytest.fail("the weights were loaded"))
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--refine") == cli.EXIT_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "error: refining cameras takes pycolmap: pip install 'mvdust3r-jax[refine]'"
    ]


def test_missing_weights_have_a_hint(place, tmp_path, capsys):
    """The message names the weights and where they are looked for."""
    argv = ["reconstruct", str(place / "фото é"), "--out", str(tmp_path / "o"), "--weights", "none"]
    assert cli.main(argv) == cli.EXIT_INPUT
    error = capsys.readouterr().err
    assert "no weights 'none'" in error and "hint: give a file with --weights" in error


def test_hints_are_ours(monkeypatch, capsys):
    """Notes that JAX adds to exceptions on their way are not shown."""

    def fail(*_):
        error = ValueError("x")
        error.add_note("--------------------\nFor simplicity, JAX has removed its internal frames")
        error.add_note("give another file")
        raise error

    monkeypatch.setattr(render, "run", fail)
    assert cli.main(["render", "any"]) == cli.EXIT_INPUT
    assert capsys.readouterr().err.splitlines() == ["error: x", "hint: give another file"]


def test_debug_shows_the_traceback(place, tmp_path, capsys):
    """Only when it is asked for."""
    run(place, tmp_path / "no.png", "--out", tmp_path / "o", "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_runs_as_a_module(tmp_path):
    """`python -m mvdust3r_jax.cli` hands the exit code on."""
    command = [sys.executable, "-m", "mvdust3r_jax.cli", "render", str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == cli.EXIT_INPUT


def test_view_says_at_once_where_it_cannot_listen(capsys):
    """The host is named in one line, exit code 2, and no network was loaded for it."""
    pytest.importorskip("viser")
    assert cli.main(["view", "--host", "999.1.1.1", "--weights", "none"]) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "999.1.1.1" in error and error.count("\n") == 1


def test_scenes_and_photographs_are_not_viewed_together(place, tmp_path, capsys):
    """Scene folders and files are found by name; a photograph among them is refused in a line."""
    pytest.importorskip("viser")
    run(place, place / "фото é", "--out", tmp_path / "a", "--export", "ply")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.copy(tmp_path / "a" / "scene.npz", tmp_path / "c.npz")
    given = [str(tmp_path / "a"), str(tmp_path / "b" / "scene.npz"), str(tmp_path / "c.npz")]
    assert list(view.saved_scenes(given)) == ["a", "b", "c"]
    assert view.saved_scenes(["no such folder"]) == {}
    capsys.readouterr()
    assert cli.main(["view", given[0], str(place / "фото é")]) == cli.EXIT_USAGE
    assert "is no saved scene; give scenes or photographs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["bench"], "--views"),
        (["export", "served", "--views", "2"], "--views"),
        (["reconstruct", "a", "--out", "o"], "--max-views"),
        (["render", "a"], None),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), MemoryLimitError("too many views")])
def test_memory_hints_name_the_option_of_the_command(monkeypatch, capsys, command, option, error):
    """None where the command has none."""

    def fail(*_):
        raise error

    module = importlib.import_module(f"mvdust3r_jax.cli.{command[0]}")
    monkeypatch.setattr(module, "run", fail)
    assert cli.main(command) == cli.EXIT_MEMORY
    hints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint: ")]
    assert len(hints) == (option is not None)
    assert option is None or f" {option} N" in hints[0]
