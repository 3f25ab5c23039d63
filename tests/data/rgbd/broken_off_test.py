"""A choice that was broken off goes on with what is finished, if that is of the same files."""

import pytest

from data.overlap import Rule
from data.rgbd import choose as choose_module
from data.rgbd.choice import Choice
from data.rgbd.choose import choose, choose_scene, plan
from data.rgbd.compare import fingerprint
from data.rgbd.splits import Splits
from tests.posed_folders import box_scene, write_seven_scenes

RULE = Rule(num_inputs=3, num_targets=1, step=2, radius_per_step_m=0.1, max_trajectories=6)
SCENE = box_scene(num_views=14)


@pytest.fixture
def broken_off(tmp_path):
    """Tasks of two scenes, and what a first run leaves that dies in the second."""
    for name in ("a", "b"):
        write_seven_scenes(tmp_path / "raw", SCENE, name)
    tasks = plan("7scenes", tmp_path / "raw", RULE, splits=Splits(test_scenes=["b"]))
    assert [(t.name, t.split) for t in tasks] == [("a", "train"), ("b", "test")]
    parts = tmp_path / "choice.split.parts"
    part = choose_module._part(parts, tasks[0], fingerprint(tasks[0].path))
    part.parent.mkdir()
    choose_module._finish(tasks[0], part, 1)
    return tasks


def chosen_now(tasks, out, monkeypatch):
    """The choice, and the scenes that were computed for it."""
    computed = []

    def told(task, workers):
        computed.append(task.name)
        return choose_scene(task, workers)

    monkeypatch.setattr(choose_module, "choose_scene", told)
    return choose(tasks, out), computed


def test_broken_off_choice_goes_on_where_it_stopped(broken_off, tmp_path, monkeypatch):
    """A finished scene is not computed again; nothing but the choice is left."""
    (tmp_path / "choice.split.parts" / "of-another-rule.npz").touch()
    choice, computed = chosen_now(broken_off, tmp_path / "choice.split", monkeypatch)
    assert computed == ["b"]
    assert len(choice.scenes["train"]["a"].trajectories) == RULE.max_trajectories
    assert len(choice.scenes["test"]["b"].trajectories) == RULE.max_trajectories
    stored = Choice.load(tmp_path / "choice.split")
    assert stored.scenes["test"]["b"].frames == choice.scenes["test"]["b"].frames
    assert not (tmp_path / "choice.split.parts").exists()


def test_broken_off_choice_does_not_go_on_with_other_files(broken_off, tmp_path, monkeypatch):
    """Scene a has a frame less than when it was finished: it is chosen anew."""
    (broken_off[0].path / "frame-000013.pose.txt").unlink()
    choice, computed = chosen_now(broken_off, tmp_path / "choice.split", monkeypatch)
    assert computed == ["a", "b"] and len(choice.scenes["train"]["a"].frames) == 13
