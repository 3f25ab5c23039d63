"""Frames that workers leave as parts: the same data set, and no scene is done twice."""

import filecmp

import pytest

from data import build
from data.stored import beam, builder
from data.stored.made_from import RECORD, StaleDataError
from data.stored.write import write_dataset
from tests.data.stored.boxes_set import Boxes


def without_beam(load, folder, tasks, options):
    """What Beam does, in this process and in another order."""
    for task in reversed(tasks):
        beam.write_part(load, folder, task)


def files(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_a_data_set_from_parts_is_the_same_byte_for_byte(tmp_path, monkeypatch):
    """All files, the list of unreadable frames too; nothing of the parts stays."""
    monkeypatch.setattr(beam, "make_parts", without_beam)
    bad = {("0", 3), ("2", 1)}
    one, told = write_dataset(lambda c: Boxes(bad=bad, data_dir=tmp_path / "a", config=c))
    options = {"runner": "any"}
    other, told_too = write_dataset(
        lambda c: Boxes(bad=bad, data_dir=tmp_path / "b", config=c), beam_options=options
    )
    assert files(one) == files(other) and len(told) == 2 and told == told_too
    for name in files(one):
        assert filecmp.cmp(one / name, other / name, shallow=False), name


def test_finished_scenes_are_not_loaded_again(tmp_path):
    """A worker that is started anew goes on with the rest; half a part does not count."""
    asked = []

    def load(split, number, name):
        asked.append(name)
        yield number, {"name": name}, None
        if name == "dies":
            raise KeyboardInterrupt

    tasks = [("train", 0, "a"), ("train", 1, "dies"), ("train", 2, "b")]
    beam.write_part(load, tmp_path, tasks[0])
    with pytest.raises(KeyboardInterrupt):
        beam.write_part(load, tmp_path, tasks[1])
    assert [p.name for p in (tmp_path / "train").iterdir()] == ["00000000.part"]
    for task in tasks[::2]:
        beam.write_part(load, tmp_path, task)
    assert asked == ["a", "dies", "b"]
    assert list(beam.read_part(tmp_path, "train", 2)) == [(2, {"name": "b"}, None)]


def test_options_are_given_once(capsys):
    """The local runner's workers, or any runner's options."""
    with pytest.raises(SystemExit):
        build.main(["rooms", "--out", "x", "--beam", "2", "--beam_options", "runner=FlinkRunner"])
    assert "not allowed with" in capsys.readouterr().err


def test_the_builder_uses_parts_of_this_module():
    """The name that the first test replaces is the one that is called."""
    assert builder.beam is beam


def test_parts_of_another_build_are_not_taken(tmp_path):
    """One that was broken off before its frames were joined was asked for something else."""
    folder = tmp_path / "boxes"
    (folder / ".frames" / "train").mkdir(parents=True)
    (folder / RECORD).write_text('{"inputs": 5}')
    with pytest.raises(StaleDataError, match="inputs 5 -> 6"):
        write_dataset(lambda config: Boxes(data_dir=tmp_path, config=config))
