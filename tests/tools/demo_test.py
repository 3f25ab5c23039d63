"""The example that `make demo` reconstructs, and how the demo judges a reconstruction."""

import numpy as np
from PIL import Image

from data.rooms import SPLITS
from mvdust3r_jax.geometry.camera import depth_to_world
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.types import images_01_from
from tools.demo import EXAMPLE, ROWS, judge, read_truth, table


def _photographs():
    return sorted((EXAMPLE / "photographs").iterdir())


def test_example_is_a_room_that_no_training_draws():
    """Its seed lies in the test split."""
    with np.load(EXAMPLE / "truth.npz") as truth:
        assert SPLITS["test"][0] <= int(truth["seed"]) < SPLITS["test"][1]


def test_photographs_are_the_views_of_the_truth():
    """Each photograph, made small, is its own view and no other's."""
    truth = images_01_from(np.asarray(read_truth(EXAMPLE / "truth.npz").images[0]))
    size = truth.shape[2], truth.shape[1]
    small = np.stack([np.asarray(Image.open(p).resize(size)) / 255.0 for p in _photographs()])
    difference = np.abs(small[:, None] - truth[None]).mean(axis=(2, 3, 4))
    assert len(small) == 8 and len(truth) == 10
    np.testing.assert_array_equal(difference.argmin(axis=1), np.arange(8))
    # Edges are not anti-aliased, so that one pixel of 128 and the mean of 4 of 256 differ there.
    assert difference.diagonal().max() < 0.08


def test_the_truth_is_judged_perfect():
    """True points and cameras, scaled, score 0 where a wall does not."""
    truth = read_truth(EXAMPLE / "truth.npz")
    world = np.linalg.inv(np.asarray(truth.world_from_cam[0, 0], np.float64))
    points = np.asarray(depth_to_world(truth.depth_m, truth.intrinsics, truth.world_from_cam))[0]
    points = points[:8] @ world[:3, :3].T + world[:3, 3]
    poses = world @ np.asarray(truth.world_from_cam[0, :8], np.float64)
    poses[:, :3, 3] *= 3
    intrinsics = np.asarray(truth.intrinsics[0, :8])
    scene = Scene(
        images_01=images_01_from(np.asarray(truth.images[0, :8])),
        points=(3 * points).astype(np.float32),
        confidence=np.ones(points.shape[:-1], np.float32),
        gaussians=None,
        world_from_cam=poses.astype(np.float32),
        pose_ok=np.ones(8, bool),
        intrinsics=intrinsics,
        original_intrinsics=intrinsics,
        original_sizes=np.tile(points.shape[1:3], (8, 1)),
        names=[p.name for p in _photographs()],
        masks=np.ones(points.shape[:-1], bool),
    )
    ours, wall, pictures = judge(scene, truth, max_scale=1.0)
    assert ours["nd"] < 1e-4 and ours["rra15"] == 1 and ours["rta15"] == 1
    assert wall["nd"] > 0.5 and wall["rta15"] < 0.5
    assert pictures.shape == (2, 128, 128, 3)


def test_a_number_that_a_result_lacks_is_left_empty():
    """A wall has no rendered views."""
    full = {name: 0.5 for name, _, _ in ROWS}
    wall = {name: 0.25 for name in full if name != "psnr_db"}
    *_, last_but_one, last = table({"network": full, "a wall": wall}).splitlines()
    assert last_but_one.split()[-2:] == ["50.00", "25.00"] and last.split()[-1] == "0.50"
