"""A saved scene: what is written comes back; edited, cut or foreign files are named, not used."""

import dataclasses
import errno
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.storage.scene_check import SceneFileError
from tests.export_scene import box_room


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file of two views with Gaussians, and its arrays."""
    path = tmp_path_factory.mktemp("scene") / "scene.npz"
    box_room(2).save_arrays(path)
    return path, dict(np.load(path))


def test_what_is_saved_comes_back(saved):
    """Every field, bit for bit."""
    want, got = box_room(2), SceneArrays.load(saved[0])
    for field in dataclasses.fields(SceneArrays):
        a, b = getattr(want, field.name), getattr(got, field.name)
        if field.name == "gaussians":
            a, b = vars(a), vars(b)
            assert all(np.array_equal(a[k], b[k]) for k in a)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_a_scene_says_in_a_line_what_it_is():
    """A notebook shows what a cell ends with: not the arrays."""
    scene = box_room(2)
    shown = repr(scene)
    assert "\n" not in shown and len(shown) < 200
    assert f"2 views of {scene.depth.shape[1]} x {scene.depth.shape[2]}" in shown
    assert repr(scene.names[scene.reference]) in shown


def test_scenes_can_be_told_apart():
    """By identity: a set or a cache may hold them."""
    one, other = box_room(2), box_room(2)
    assert one != other and one in {one}


def rewritten(path, arrays, name, value):
    """A copy with one array exchanged, or left out where the value is None."""
    arrays = {k: v for k, v in (arrays | {name: value}).items() if v is not None}
    np.savez(path, **arrays)
    return path


def with_meta(arrays, **changes):
    return np.array(json.dumps(json.loads(str(arrays["meta"])) | changes))


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("points", lambda x: x[:1], r"points should hold the shape \[2 "),
        ("points", lambda x: x[..., :2], r"points should hold the shape"),
        ("points", lambda x: x.astype(str), "floating-point numbers, got <U"),
        ("confidence", lambda x: x * np.nan, "confidence should hold finite numbers"),
        ("world_from_cam", lambda x: np.full_like(x, np.inf), "world_from_cam should hold finite"),
        ("world_from_cam", lambda x: 0 * x, "world_from_cam should hold rotations"),
        ("world_from_cam", lambda x: x * 1.1, "world_from_cam should hold rotations"),
        ("world_from_cam", lambda x: x * [1, 1, -1, 1], "world_from_cam should hold rotations"),
        ("intrinsics", lambda x: -x, "positive focal lengths"),
        ("original_sizes", lambda x: x * 0, "sizes from 1 to"),
        ("masks", lambda x: x.astype(np.float32), "true or false, got float32"),
        ("gaussians_rotations", lambda x: x[..., :3], "gaussians_rotations should hold the shape"),
        ("gaussians_scales", lambda x: None, "lacks gaussians_scales"),
        ("images_01", lambda x: None, "lacks images_01"),
        ("images_01", lambda x: x[:, :0], "images_01 should hold the shape"),
        ("extra", lambda x: np.zeros(3), "unknown arrays: extra"),
        ("meta", lambda x: np.array("{"), "'meta' is damaged"),
        ("meta", lambda x: np.array("[]"), "'meta' is damaged"),
        ("meta", lambda x: np.array('{"format": 99}'), "another version"),
        ("meta", lambda x: np.zeros(3), "'meta' is damaged"),
    ],
)
def test_edited_files_are_named_with_what_is_wrong(saved, tmp_path, name, change, words):
    """One line with the file, the field, what was expected and what came."""
    arrays = saved[1]
    path = rewritten(tmp_path / "e.npz", arrays, name, change(arrays.get(name)))
    with pytest.raises(SceneFileError, match=words) as caught:
        SceneArrays.load(path)
    assert "e.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ["a"]},
        {"names": "ab"},
        {"metric": 3},
        {"x": 1},
        {"timings": {"a": "1"}},
        {"reference": 2},
    ],
)
def test_edited_texts_are_named(saved, tmp_path, changes):
    """Names for each view, true or false, and nothing unknown."""
    path = rewritten(tmp_path / "e.npz", saved[1], "meta", with_meta(saved[1], **changes))
    with pytest.raises(SceneFileError, match=next(iter(changes))):
        SceneArrays.load(path)


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    """Arrays of JAX are saved as NumPy's; fields that do not fit are named, nothing is written."""
    scene = box_room(2)
    path = tmp_path / "s.npz"
    dataclasses.replace(scene, points=jnp.asarray(scene.points)).save_arrays(path)
    np.testing.assert_array_equal(SceneArrays.load(path).points, scene.points)
    with pytest.raises(SceneFileError, match="names should hold 2 texts"):
        dataclasses.replace(scene, names=["a"] * 3).save_arrays(tmp_path / "t.npz")
    assert not (tmp_path / "t.npz").exists()


def test_text_is_no_scene(tmp_path):
    """Nothing is said of pickles, which no option would make readable."""
    (tmp_path / "s.npz").write_text("hello")
    with pytest.raises(SceneFileError, match="s.npz is no saved scene, which is an .npz archive"):
        SceneArrays.load(tmp_path / "s.npz")


def test_a_file_that_may_not_be_opened_is_not_called_damaged(saved, monkeypatch):
    """The system's error comes as it is."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(saved[0]))

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr("io.open", refused)
    with pytest.raises(PermissionError, match="Permission denied"):
        SceneArrays.load(saved[0])


@pytest.mark.parametrize("view", [0, 1])
def test_the_pose_that_is_wrong_is_the_one_that_is_shown(saved, tmp_path, view):
    """Also where its last row alone is."""
    poses = saved[1]["world_from_cam"].copy()
    poses[view, 3, 3] = 2
    path = rewritten(tmp_path / "e.npz", saved[1], "world_from_cam", poses)
    with pytest.raises(SceneFileError, match=re.escape(str(poses[view].tolist())[:40])):
        SceneArrays.load(path)


def test_cut_and_flipped_files_never_pass_unseen(saved, tmp_path):
    """Whatever is damaged: the error for it, or a scene that holds all it needs."""
    data, rng = saved[0].read_bytes(), np.random.default_rng(0)
    path = tmp_path / "d.npz"
    refused = 0
    for i in range(60):
        damaged = bytearray(data)
        if i % 2:
            damaged = damaged[: rng.integers(len(data))]
        else:
            damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            SceneArrays.load(path)
        except SceneFileError:
            refused += 1
    assert refused >= 50


def test_far_worlds_keep_their_digits_in_the_file(tmp_path):
    """float64 points and poses come back as they are."""
    scene = box_room(2, height=8, width=12)
    far = dataclasses.replace(
        scene,
        points=scene.points + np.array([4e5, 5e6, 0]),
        world_from_cam=scene.world_from_cam.astype(np.float64),
        world_is_reference=False,
    )
    loaded = SceneArrays.load(far.save_arrays(tmp_path / "s.npz"))
    np.testing.assert_array_equal(loaded.points, far.points)
    assert loaded.points.dtype == loaded.world_from_cam.dtype == np.float64
