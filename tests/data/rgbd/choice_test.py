"""Choice files that are damaged, or none, are told in a line before anything is computed."""

import numpy as np
import pytest

from data import build
from data.overlap import Rule
from data.rgbd.choice import Choice, SceneChoice
from data.schema import Trajectories
from tests.posed_folders import box_scene, write_seven_scenes

SCENE = SceneChoice(("a", "b"), Trajectories.whole([[0]], [[1]]), ())
CHOICE = Choice("7scenes", Rule(num_inputs=1, num_targets=1), 0, {"train": {"s0": SCENE}})


def half(path):
    """Copied by a disk that filled up."""
    CHOICE.save(path)
    path.write_bytes(path.read_bytes()[:300])


def without_tables(path):
    """A choice of another program, with our header."""
    CHOICE.save(path)
    with np.load(path) as stored:
        header = stored["header"]
    np.savez(path, header=header)


DAMAGE = {
    "half": half,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("s0 0 1"),
    "another's": lambda path: np.savez(path, x=np.zeros(3)),
    "another's header": lambda path: np.savez(path, header=np.array("[]")),
    "without tables": without_tables,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_choice_is_one_line_before_anything_is_computed(tmp_path, monkeypatch, damage):
    """It names the file, whether it was given or lies in the output folder."""
    write_seven_scenes(tmp_path / "raw", box_scene(num_views=2), "s0")
    path = tmp_path / "out/choice.npz"
    path.parent.mkdir()
    DAMAGE[damage](path)
    monkeypatch.setattr(build, "choose", None)
    monkeypatch.setattr(build, "plan", None)
    argv = f"rgbd --layout 7scenes --root {tmp_path}/raw --out {tmp_path}/out".split()
    for given in ([], ["--choice", str(path)]):
        with pytest.raises(SystemExit, match=f"error: {path} is no choice file: ") as ended:
            build.main([*argv, *given])
        assert len(str(ended.value).splitlines()) == 1


def test_a_choice_that_is_whole_is_read(tmp_path):
    """With what tells it from others."""
    CHOICE.save(tmp_path / "c.npz")
    assert Choice.load(tmp_path / "c.npz").digest() == CHOICE.digest()
