import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from data import show
from data.mixture import make_train_iterator
from data.overlap import Rule
from data.rgbd.builder import Rgbd
from data.rgbd.choice import Choice
from data.rgbd.choose import choose_scene, plan
from data.rooms import sample_trajectory
from data.rooms.builder import RoomsDataset
from data.stored.config import DataConfig
from data.stored.reader import TrajectorySet, Views
from data.stored.write import write_dataset
from mvdust3r_jax.geometry.camera import depth_to_world, project
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from tests.posed_folders import WRITERS, PosedScene, released_entry, write_h5

INPUTS, TARGETS, SIZE = 4, 2, (72, 72)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    out = tmp_path_factory.mktemp("rooms")
    shared = dict(
        counts={"train": 3}, num_inputs=INPUTS, num_targets=TARGETS, height=72, width=72, known={}
    )
    return write_dataset(lambda config: RoomsDataset(data_dir=out, config=config, **shared))[0]


def depth_errors(batch):
    """Valid depth of each view carried into the next: |z - depth| on surfaces that both see."""
    world = depth_to_world(
        *map(jnp.asarray, (batch.depth_m, batch.intrinsics, batch.world_from_cam))
    )
    errors = []
    samples, views = batch.depth_m.shape[:2]
    for sample, view in itertools.product(range(samples), range(views - 1)):
        cam_from_world = invert_rigid(jnp.asarray(batch.world_from_cam[sample, view + 1]))
        carried = transform_points(cam_from_world, world[sample, view])
        pixels = project(carried, jnp.asarray(batch.intrinsics[sample, view + 1]))
        errors.append(
            interpolation_errors(
                np.asarray(pixels).reshape(-1, 2),
                np.asarray(carried[..., 2]).ravel(),
                batch.depth_m[sample, view + 1],
            )
        )
    return np.concatenate(errors)


def interpolation_errors(pixels, z, depth):
    """Against the other view's depth, whose inverse is linear on a plane."""
    inside = (z > 0.1) & (pixels > 0).all(axis=1)
    inside &= (pixels < np.array(depth.shape)[::-1] - 1.01).all(axis=1)
    pixels, z = pixels[inside], z[inside]
    low = np.floor(pixels).astype(int)
    fx, fy = (pixels - low).T
    x, y = low.T
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / depth
        top = inverse[y, x] * (1 - fx) + inverse[y, x + 1] * fx
        bottom = inverse[y + 1, x] * (1 - fx) + inverse[y + 1, x + 1] * fx
        error = np.abs(z - 1 / (top * (1 - fy) + bottom * fy))
    # What differs by more is another surface: hidden, or across an edge.
    return error[error < 0.02 * z]


@pytest.mark.parametrize("augment", [False, True])
def test_stored_depth_agrees_across_views_to_a_tenth_of_a_millimeter(rooms, augment):
    """Median below 1e-4 m with stored poses and intrinsics, before and after augmentation."""
    cfg = DataConfig(
        sources=((str(rooms), 1.0),),
        num_inputs=(INPUTS,),
        num_targets=TARGETS,
        image_size=(64, 64),
        augment=augment,
        shuffle_views=False,
        threads=2,
        read_ahead=4,
    )
    batch, _ = next(make_train_iterator(cfg, seed=0, batch_size=3))
    errors = depth_errors(batch)
    assert len(errors) > 10_000
    assert np.median(errors) < 1e-4


def test_stored_rooms_are_the_rooms_of_their_seeds(rooms):
    """Without augmentation and resizing, a stored sample is the rendered one but for encoding."""
    stored = TrajectorySet(rooms, "train")
    seed = int(stored.scenes[1].rpartition(":")[2])
    rendered = sample_trajectory(seed, INPUTS, TARGETS, *SIZE)
    (frame,) = stored.read(stored.inputs[1, 2:3])
    np.testing.assert_array_equal(frame["world_from_cam"], rendered.world_from_cam[2])
    np.testing.assert_array_equal(frame["intrinsics"], rendered.intrinsics[2])
    assert len(stored) == 3


def test_copies_of_one_room_in_every_format_are_stored_alike(tmp_path):
    """ScanNet, ScanNet++, 7-Scenes, plain folders and a released file of one rendered room."""
    rendered = sample_trajectory(5, INPUTS, TARGETS, *SIZE)
    scene = PosedScene(
        np.rint((np.asarray(rendered.images) + 1) * 127.5).astype(np.uint8),
        np.asarray(rendered.depth_m),
        rendered.world_from_cam,
        np.asarray(rendered.intrinsics[0], np.float64),
    )
    rule = Rule(num_inputs=2, num_targets=1, lo=0.2, hi=0.99, coverage=0.3, radius_per_step_m=0.1)
    sets = {}
    for layout, write in WRITERS.items():
        write(tmp_path / layout, scene)
        (task,) = plan(layout, tmp_path / layout, rule)
        choice = Choice(layout, rule, 0, {"train": {"room": choose_scene(task)}})
        common = dict(root=tmp_path / layout, choice=choice, data_dir=tmp_path / f"{layout}-out")
        folder, _ = write_dataset(lambda config, common=common: Rgbd(config=config, **common))
        sets[layout] = TrajectorySet(folder, "train")
    from data import build

    write_h5(tmp_path / "dps.h5", [released_entry(scene, range(INPUTS + TARGETS))])
    argv = f"released --train {tmp_path}/dps.h5 --root {tmp_path}/scannet --out {tmp_path}/h5"
    build.main(argv.split())
    sets["released"] = TrajectorySet(tmp_path / "h5" / "released", "train")
    first = sets["scannet"]
    for name, other in sets.items():
        if name != "released":
            np.testing.assert_array_equal(first.inputs, other.inputs)
            np.testing.assert_array_equal(first.targets, other.targets)
        both = zip(first.read(range(6)), other.read(range(6)), strict=True)
        for a, b in both:
            assert (a["image"], a["depth"]) == (b["image"], b["depth"])
            # ScanNet++'s poses went through an inverse and a quaternion.
            np.testing.assert_allclose(a["world_from_cam"], b["world_from_cam"], atol=2e-6)
            np.testing.assert_allclose(a["intrinsics"], b["intrinsics"], atol=1e-5)


def test_sheet_shows_every_view_and_says_what_is_missing(rooms, tmp_path):
    """One row a trajectory; a folder that is no data set is named."""
    argv = [str(rooms), "--out", str(tmp_path / "sheet.png"), "--count", "2", "--size", "48"]
    show.main(argv)
    import cv2

    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture.shape == (2 * (2 * 48 + 8), (INPUTS + TARGETS + 2) * 48, 3)
    with pytest.raises(SystemExit, match="no data set"):
        show.main([str(tmp_path), "--out", str(tmp_path / "x.png")])


@pytest.mark.parametrize("apart_m", [1.0, 0.0])
@pytest.mark.parametrize("depth_m", ["unknown", "above the cameras"])
def test_a_sheet_without_any_point_shows_the_cameras(apart_m, depth_m):
    """Depth is black, and the plan has the path; also where all cameras stand in one place."""
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = apart_m * np.arange(3)
    depth = np.zeros((3, 48, 48), np.float32)
    if depth_m != "unknown":
        depth[:, 0] = 100
    intrinsics = np.tile(np.array([[48, 0, 24], [0, 48, 24], [0, 0, 1]], np.float32), (3, 1, 1))
    views = Views(np.zeros((3, 48, 48, 3), np.float32), depth, poses, intrinsics)
    row = show.trajectory_rows(views, 2)
    assert row.shape == (96, 3 * 48 + 96, 3)
    plan = row[:, 3 * 48 :]
    assert (row[50:96, : 3 * 48] == 0).all() and 0 < (plan != 255).any(axis=-1).sum() < 1000
