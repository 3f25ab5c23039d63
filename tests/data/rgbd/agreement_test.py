"""Depth, intrinsics and poses that do not fit each other are told, whichever of them is wrong."""

import numpy as np
import pytest

from data.overlap import Rule
from data.rgbd.agreement import MOST, depth_disagreement, sample
from data.rgbd.choose import choose_scene, plan
from tests.posed_folders import box_scene, write_plain

OPENCV_FROM_OPENGL = np.diag([1.0, -1, -1, 1])


def sampled(depth_factor=1.0, pose_of=lambda pose: pose, step=2):
    scene = box_scene()
    return [
        sample(depth_factor * depth, scene.intrinsics, pose_of(pose), step)
        for depth, pose in zip(scene.depth_m, scene.poses, strict=True)
    ]


def test_what_fits_differs_by_the_sampling_alone():
    """A pixel's depth is compared with that of its nearest one."""
    assert depth_disagreement(sampled()) < 0.02
    assert depth_disagreement(sampled(step=1)) < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        dict(depth_factor=5.0),
        dict(depth_factor=0.1),
        dict(pose_of=np.linalg.inv),
        dict(pose_of=lambda pose: pose @ OPENCV_FROM_OPENGL),
    ],
    ids=["depth times 5", "a tenth of it", "world-to-camera", "axes of OpenGL"],
)
def test_mistaken_conventions_stand_out(wrong):
    """Several times what is let pass."""
    assert depth_disagreement(sampled(**wrong)) > 1.5 * MOST


def test_a_scene_of_another_convention_is_told_with_its_choice(tmp_path):
    """Trajectories may be found in it all the same."""
    scene = box_scene()
    write_plain(tmp_path / "right", scene)
    scene.poses = scene.poses @ OPENCV_FROM_OPENGL
    write_plain(tmp_path / "wrong", scene)
    rule = Rule(lo=0.05, hi=1.0, num_inputs=2, num_targets=1)
    right, wrong = (choose_scene(plan("plain", tmp_path / n, rule)[0]) for n in ("right", "wrong"))
    assert not any("differ" in problem for problem in right.problems)
    assert any("differ by" in p and "OpenCV axes" in p for p in wrong.problems)
