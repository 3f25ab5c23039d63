"""Configurations are checked by name and type, on the command line and in files."""

import importlib
import subprocess
import sys
from pathlib import Path

import ml_collections
import pytest

from configs import checks, defaults, eval_defaults, eval_rooms, flags

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("eval_*.py"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_evaluation_config_fits(name):
    """None has a field that does not stand in the defaults."""
    eval_defaults.check(importlib.import_module(f"configs.{name}").get_config())


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cuont", 3, r"unknown field datasets.rooms.cuont \(closest: count\)"),
        ("height", "64", "datasets.rooms.height must be of type int, got '64'"),
        ("source", "room", r"datasets.rooms.source must be one of .*'rooms'.*got 'room'"),
        ("folder", "x", "unknown field datasets.rooms.folder"),
    ],
)
def test_wrong_fields_of_a_data_set_are_named(field, value, said):
    """Misspelled, of another type, of another source."""
    config = eval_rooms.get_config()
    config.datasets.rooms = ml_collections.ConfigDict(
        config.datasets.rooms.to_dict() | {field: value}
    )
    with pytest.raises(ValueError, match=said):
        eval_defaults.check(config)


def test_a_field_that_is_missing_is_named():
    """A stored set without its folder."""
    config = eval_defaults.get_config()
    config.datasets.held_out = {"source": "records", "split": "test", "height": 8, "width": 8}
    with pytest.raises(ValueError, match="missing field datasets.held_out.folder"):
        eval_defaults.check(config)


def test_the_config_is_locked():
    """A file that sets a misspelled field fails where it does."""
    config = eval_rooms.get_config()
    with pytest.raises(AttributeError, match="veiws"):
        config.veiws = "4"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pek_lr": 1.0}, ["unknown field pek_lr (closest: peak_lr)"]),
        ({"data": {"hieght": 1}}, ["unknown field data.hieght (closest: height)"]),
        ({"seed": True}, ["seed must be of type int, got True"]),
        ({"seed": 1.5}, ["seed must be of type int, got 1.5"]),
        ({"data": 3}, ["data must be of type ConfigDict, got 3"]),
        ({"peak_lr": 1, "data": {"num_inputs": [4]}}, []),
        ({"eval": {"mine": {"anything": 1}}}, []),
    ],
)
def test_training_configs_can_be_checked_too(given, said):
    """Names and types at any depth; whole numbers may stand for others, lists for tuples."""
    assert checks.faults(given, defaults.get_config(), free=("eval",)) == said


def test_missing_fields_are_found_at_any_depth():
    """And only those."""
    known = {"a": 1, "b": {"c": 2, "d": 3}}
    assert checks.missing({"b": {"c": 2}}, known) == ["missing field a", "missing field b.d"]
    assert checks.missing(known, known) == []


def test_a_workdir_elsewhere_is_refused():
    """It would become a folder of this machine."""
    with pytest.raises(ValueError, match="s3://bucket/x"):
        flags.work_folder("s3://bucket/x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.veiws=4"], "error: unknown field --config.veiws (closest: views)"),
        (["--config.num_refs=0"], "error: num_refs must be at least 1, got 0"),
    ],
)
def test_eval_ends_in_one_line_and_leaves_nothing(tmp_path, arguments, said):
    """The whole program: exit code 1, one line, and no folder that a next run would stumble on."""
    command = [sys.executable, "eval.py", "--config", "configs/eval_rooms.py", *arguments]
    command += ["--workdir", str(tmp_path / "out"), "--config.methods=constant"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip() == said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--config", "my confs/c.py"], ["-config=my confs/c.py"], ["--config=my confs/c.py"]],
)
def test_the_config_file_is_found_where_it_stands(arguments):
    """A path may have spaces, and that of the workdir may end like the flag."""
    before = ["train.py", "--workdir", "runs/my-config", "--note=--config=other.py"]
    assert flags.config_file([*before, *arguments, "--config.veiws=4"]) == "my confs/c.py"
