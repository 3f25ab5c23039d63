"""Scenes in the coordinates of maps: float32 loses no more there than near the origin."""

import copy

import numpy as np
import pytest

from data.overlap import Rule
from data.rgbd.builder import Rgbd
from data.rgbd.choice import Choice
from data.rgbd.choose import choose_scene, plan
from data.schema import CorruptRecord
from data.stored.origin import moved, scene_origin
from data.stored.reader import TrajectorySet
from data.stored.write import write_dataset
from tests.posed_folders import box_scene, write_plain

RULE = Rule(num_inputs=3, num_targets=1, step=2, radius_per_step_m=0.1, max_trajectories=4)
UTM = np.array([500123.25, 5412345.75, 310.5])


def stored(folder, scene):
    """The scene's choice and its stored poses, built from a plain folder."""
    write_plain(folder / "raw", scene)
    (task,) = plan("plain", folder / "raw", RULE)
    choice = choose_scene(task)
    chosen = Choice("plain", RULE, 0, {"train": {task.name: choice}})
    common = {"root": folder / "raw", "choice": chosen, "data_dir": folder / "out"}
    place, _ = write_dataset(lambda config: Rgbd(config=config, **common))
    frames = TrajectorySet(place, "train").read(range(len(choice.frames)))
    return choice, np.stack([frame["world_from_cam"] for frame in frames])


def test_a_scene_in_utm_coordinates_is_the_same_scene(tmp_path):
    """Equal trajectories, and cameras as far from each other to a hundredth of a millimeter."""
    near = box_scene(num_views=14)
    far = copy.copy(near)
    far.poses = near.poses.copy()
    far.poses[:, :3, 3] += UTM
    choice, poses = stored(tmp_path / "near", near)
    choice_far, poses_far = stored(tmp_path / "far", far)
    np.testing.assert_array_equal(choice.trajectories.inputs, choice_far.trajectories.inputs)
    np.testing.assert_array_equal(choice.trajectories.targets, choice_far.trajectories.targets)
    between = [p[:, :3, 3] - p[:1, :3, 3] for p in (poses, poses_far)]
    np.testing.assert_allclose(*between, atol=1e-5)
    np.testing.assert_array_equal(poses[:, :3, 3], near.poses[:, :3, 3].astype(np.float32))


def test_cameras_too_far_from_each_other_are_named():
    """A first camera at zero and another in UTM coordinates: not rounded in silence."""
    pose = np.eye(4)
    pose[:3, 3] = UTM
    with pytest.raises(CorruptRecord, match="f: the camera is 5412346 m from the scene's origin"):
        moved(pose, scene_origin(np.eye(4)), "f")
