"""Reconstruction end to end with a tiny random network, and with known geometry in its place."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pycolmap
import pytest

from mvdust3r_jax import VARIANTS, ModelConfig, MVDust3r
from mvdust3r_jax import reconstruct as reconstruct_function
from mvdust3r_jax.cameras import known as known_cameras
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.geometry import camera, transforms
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.reconstruction import known_world, memory
from mvdust3r_jax.reconstruction.model import Model, load_model
from mvdust3r_jax.reconstruction.network import Answer
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.reconstruction.traced import forward
from mvdust3r_jax.types import Gaussians, Prediction
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import places
from tests.pinhole import pinhole

CONFIG = ModelConfig(
    16, 1, 1, 16, 2, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True, sh_degree=1
)
SIZE = (16, 24)
# The package's attribute of this name is the function.
RECONSTRUCT = sys.modules["mvdust3r_jax.reconstruction.reconstruct"]
MODEL = sys.modules["mvdust3r_jax.reconstruction.model"]


@pytest.fixture(scope="module")
def model():
    tree = abstract_variables(CONFIG)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    return Model(CONFIG, variables, SIZE, "test")


def photographs(count, height=40, width=50):
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 255, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 11, 12, 16, 24, 100])
def test_network_order(count):
    """A permutation that keeps view 0 first; the swaps of the release's evaluation."""
    order = network_order(count)
    assert sorted(order) == list(range(count)) and order[0] == 0
    expected = {4: [0, 3, 2, 1], 7: [0, 3, 6, 1, 4, 5, 2], 12: [0, 4, 7, 10]}
    if count in expected:
        assert order[: len(expected[count])] == expected[count]


def test_order_is_undone(model):
    """The result of view i belongs to photograph i, as the network itself gives it."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, *SIZE, 3), dtype=np.uint8)
    order = np.array(network_order(5))

    @jax.jit
    def both(variables, pixels):
        images = pixels[order].astype(jnp.float32)[None] / 127.5 - 1
        direct = MVDust3r(CONFIG).apply(variables, images, num_refs=2)
        return forward(CONFIG, 2, variables, pixels).points[order], direct.points[0]

    got, want = both(model.variables, pixels)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_scene_of_photographs(model):
    """Shapes, ranges and bookkeeping of a whole reconstruction."""
    stages = []
    scene = reconstruct(photographs(3), model, progress=stages.append)
    assert stages == ["read", "compile", "network", "cameras"] == list(scene.timings)
    assert scene.points.shape == (3, *SIZE, 3) == scene.images_01.shape == scene.colors.shape
    assert scene.confidence.min() >= 1 and scene.masks.all()
    assert scene.gaussians.colors.shape == (3, *SIZE, 12)
    limits = np.array([1e-4, CONFIG.max_scale]) * np.linalg.norm(scene.points, axis=-1).mean()
    assert limits[0] * 0.999 <= scene.gaussians.scales.min()
    assert scene.gaussians.scales.max() <= limits[1] * 1.001
    assert scene.original_sizes.tolist() == [[40, 50]] * 3
    assert scene.names == ["image_0000", "image_0001", "image_0002"]
    np.testing.assert_array_equal(scene.world_from_cam[scene.reference], np.eye(4))
    assert scene.pose_ok[scene.reference] and scene.cameras.world_from_cam.shape == (3, 4, 4)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(scene.gaussians))


def test_a_second_scene_of_the_same_shape_is_not_compiled(model):
    """One program per number of views, whatever the photographs."""
    reconstruct(photographs(3), model)
    scene = reconstruct([p[::-1] for p in photographs(3)], model)
    assert scene.timings["compile"] < 0.05


def test_scene_is_saved_and_loaded(model, tmp_path):
    """Every field comes back from the folder, Gaussians included."""
    scene = reconstruct(photographs(2), model)
    files = scene.save(tmp_path / "out", ["npz"])
    assert all(path.exists() for path in files)
    loaded = Scene.load(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, loaded.gaussians, scene.gaussians)
    for field in dataclasses.fields(scene):
        if field.name != "gaussians":
            np.testing.assert_equal(getattr(loaded, field.name), getattr(scene, field.name))
    with pytest.raises(FileNotFoundError):
        Scene.load(tmp_path)
    # A file from before there were other worlds than the reference's.
    stored = dict(np.load(tmp_path / "out" / "scene.npz"))
    meta = json.loads(str(stored["meta"]))
    del meta["world_is_reference"]
    np.savez(tmp_path / "old.npz", **stored | {"meta": np.array(json.dumps(meta))})
    assert Scene.load(tmp_path / "old.npz").world_is_reference


def test_a_scene_that_breaks_off_leaves_nothing(model, tmp_path, monkeypatch):
    """Ctrl-C while `scene.npz` is written: the earlier one stays, no part of the new one."""
    scene = reconstruct(photographs(2), model)
    (tmp_path / "scene.npz").write_text("old")

    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scene.save_arrays(tmp_path / "scene.npz")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("scene.npz", "old")]


def test_other_files_are_no_scene(tmp_path):
    """An `.npz` of something else is refused."""
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match="no saved scene"):
        Scene.load(tmp_path / "other.npz")


def test_model_from_a_file(model, tmp_path, monkeypatch):
    """By path and by name, with the size that it was trained at; a missing one says where."""
    weight_files.save_weights(
        tmp_path / "w.safetensors", model.variables, CONFIG, image_size=(16, 32)
    )
    loaded = load_model(tmp_path / "w.safetensors")
    assert loaded.config == CONFIG and loaded.image_size == (16, 32) and loaded.name == "w"
    monkeypatch.setattr(places, "_folders", lambda: (tmp_path,))
    assert load_model("w", "bfloat16").config.dtype == "bfloat16"
    with pytest.raises(FileNotFoundError, match="'mvdp'.*" + str(tmp_path)):
        load_model("mvdp")
    with pytest.raises(FileNotFoundError) as missing:
        load_model("small")
    assert "clone of the repository" in missing.value.__notes__[0]
    assert reconstruct_function is reconstruct


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(images="photo.jpg"), "list of photographs"),
        (dict(images=photographs(1)), "at least 2 images are needed, got 1"),
        (dict(size=(20, 24)), "multiples of 8, got 20 x 24"),
        (dict(num_refs=0), "at least 1, got 0"),
        (dict(fit="stretch"), "crop, pad"),
        (dict(masks=[np.ones((40, 50))]), "1 masks do not fit 2 images"),
        (dict(focal_px=-3.0), "positive"),
        (dict(focal_px="exif"), "no EXIF focal length in image_0000"),
        (dict(memory_limit=1000), "GiB can be used"),
        (dict(cameras=KnownCameras(np.tile(np.eye(3), (3, 1, 1)))), "3 intrinsics"),
    ],
)
def test_wrong_arguments(model, arguments, message):
    """Each is one sentence with what was expected and received."""
    with pytest.raises(ValueError, match=message):
        reconstruct(**(dict(images=photographs(2), model=model) | arguments))


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_identical_photographs(model, value):
    """Nothing to see gives a valid scene, not an error."""
    scene = reconstruct([np.full((9, 9, 3), value, np.uint8)] * 2, model)
    assert np.isfinite(scene.points).all() and np.isfinite(scene.intrinsics).all()


# ---------------------------------------------------------------- known geometry


def posed_box(count, focal=55.0):
    """Cameras around a curved surface, and the pointmaps a perfect network would give.

    focal: of all views, or of each.
    """
    height, width = 48, 64
    rng = np.random.default_rng(2)
    v, u = np.mgrid[:height, :width]
    intrinsics = pinhole(np.broadcast_to(np.float32(focal), count), height, width)
    # Of photographs whose middle is the principal point, not of the published recipe's crops.
    intrinsics[:, :2, 2] -= 0.5
    depth = 4 + np.sin(u / 9 + np.arange(count)[:, None, None]) + 0.5 * np.cos(v / 7)
    tilt = np.array(transforms.rotation_from_axis_angle(jnp.array(rng.normal(0, 0.2, (count, 3)))))
    tilt[0] = np.eye(3)
    world_from_cam = np.tile(np.eye(4), (count, 1, 1))
    world_from_cam[:, :3, :3] = tilt
    world_from_cam[1:, :3, 3] = rng.normal(0, 0.5, (count - 1, 3))
    points = camera.depth_to_world(
        jnp.asarray(depth, jnp.float32),
        jnp.asarray(intrinsics),
        jnp.asarray(world_from_cam, jnp.float32),
    )
    return np.asarray(points), intrinsics, world_from_cam


@pytest.fixture
def perfect(monkeypatch):
    """`reconstruct` with the network replaced by the right answer for three views."""
    return answered(monkeypatch, *posed_box(3))


def answered(monkeypatch, points, intrinsics, poses):
    gaussians = Gaussians(
        colors=np.random.default_rng(0).normal(size=(3, 48, 64, 12)).astype(np.float32),
        opacities=np.ones((3, 48, 64), np.float32),
        scales=np.ones((3, 48, 64, 3), np.float32),
        rotations=np.tile(np.float32([1, 0, 0, 0]), (3, 48, 64, 1)),
    )
    prediction = Prediction(points, np.full((3, 48, 64), 5.0, np.float32), gaussians)

    def ask(*_):
        return Answer(prediction, reference=0)

    monkeypatch.setattr(RECONSTRUCT, "asking", lambda *_: ask)
    model = Model(CONFIG, {}, (48, 64), "perfect")
    blank = Photo(np.zeros((96, 128, 3), np.uint8), np.ones((96, 128), bool), (96, 128), "a")
    return model, [blank] * 3, points, intrinsics, poses


def test_cameras_of_perfect_pointmaps(perfect):
    """Focal length, poses and depths are recovered; at twice the size the focal doubles."""
    model, photos, _, intrinsics, poses = perfect
    scene = reconstruct(photos, model)
    assert scene.pose_ok.all()
    np.testing.assert_allclose(scene.intrinsics, intrinsics, rtol=1e-3)
    np.testing.assert_allclose(scene.world_from_cam, poses, atol=2e-3)
    np.testing.assert_allclose(scene.original_intrinsics[:, 0, 0], 110, rtol=1e-3)
    assert (scene.depth > 2).all()


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("focal_px", [None, 3000.0])
def test_principal_point_is_the_middle_of_the_photograph(model, fit, focal_px):
    """Of whatever size and crop, it is (w - 1) / 2 at the original size, centers at integers."""
    sizes = [(300, 400), (16, 24), (37, 51)]
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    scene = reconstruct(photos, model, fit=fit, focal_px=focal_px)
    middles = [[(w - 1) / 2, (h - 1) / 2] for h, w in sizes]
    # float32 holds a few hundred pixels to 1e-4.
    np.testing.assert_allclose(scene.original_intrinsics[:, :2, 2], middles, atol=1e-3)
    # A photograph of the network's size is not resampled for that.
    np.testing.assert_array_equal(scene.images_01[1], photos[1].astype(np.float32) / 255)


@pytest.mark.parametrize("zoom", [0.6, 1.4, 2.0])
def test_another_zoom_has_its_own_focal_length(monkeypatch, zoom, tmp_path):
    """It is found beside the common one, with the pose, and stands in what other programs read."""
    focal = [55.0, 55 * zoom, 55.0]
    model, photos, _, intrinsics, poses = answered(monkeypatch, *posed_box(3, focal))
    photos = [dataclasses.replace(p, name=f"{i}.jpg") for i, p in enumerate(photos)]
    scene = reconstruct(photos, model)
    np.testing.assert_allclose(scene.intrinsics, intrinsics, rtol=2e-3)
    np.testing.assert_allclose(scene.world_from_cam, poses, atol=5e-3)
    np.testing.assert_allclose(scene.original_intrinsics[:, 0, 0], 2 * np.array(focal), rtol=2e-3)
    scene.save(tmp_path, ["colmap", "cameras"])
    model = pycolmap.Reconstruction(tmp_path / "colmap" / "sparse" / "0")
    read = [i.camera.focal_length_x for i in sorted(model.images.values(), key=lambda i: i.name)]
    np.testing.assert_allclose(read, 2 * np.array(focal), rtol=2e-3)


def test_one_lens_for_all_is_kept_where_it_is_asked_for(monkeypatch):
    """``"one"`` passes over another zoom; ``"each"`` changes nothing where all are alike."""
    model, photos, *_ = answered(monkeypatch, *posed_box(3, [55, 80, 55]))
    assert np.ptp(reconstruct(photos, model, focal_px="one").intrinsics[:, 0, 0]) == 0
    model, photos, _, intrinsics, _ = answered(monkeypatch, *posed_box(3))
    each = reconstruct(photos, model, focal_px="each").intrinsics
    np.testing.assert_allclose(each, intrinsics, rtol=2e-3)


def test_known_focal_lengths_are_used(perfect):
    """What is known at the original size is not estimated again."""
    model, photos, _, _, _ = perfect
    scene = reconstruct(photos, model, focal_px=[110.0, 110, 90])
    np.testing.assert_allclose(scene.original_intrinsics[:, 1, 1], [110, 110, 90], rtol=1e-6)
    np.testing.assert_allclose(scene.intrinsics[:, 1, 1], [55, 55, 45], rtol=1e-6)
    known = np.tile(np.array([[110.0, 0, 60], [0, 112, 50], [0, 0, 1]]), (3, 1, 1))
    scene = reconstruct(photos, model, cameras=KnownCameras(known))
    np.testing.assert_allclose(scene.original_intrinsics, known, rtol=1e-5)


def test_known_poses_make_the_scene_metric(perfect):
    """A scene given in another frame and scale moves there with points, cameras and splats."""
    model, photos, points, _, poses = perfect
    turn = np.eye(4)
    turn[:3, :3] = transforms.rotation_from_axis_angle(jnp.array([0.3, 1.0, -0.5]))
    turn[:3, 3] = [1, 2, 3]
    metric = poses.copy()
    metric[:, :3, 3] *= 2.5
    metric = turn @ metric
    scene = reconstruct(photos, model, cameras=KnownCameras(world_from_cam=metric))
    want = 2.5 * points @ turn[:3, :3].T + turn[:3, 3]
    np.testing.assert_allclose(scene.points, want, atol=0.03)
    np.testing.assert_allclose(scene.world_from_cam, metric, atol=1e-6)
    np.testing.assert_allclose(scene.gaussians.scales, 2.5, rtol=5e-3)
    quat = np.array(transforms.quat_from_rotation(jnp.asarray(turn[:3, :3])))
    got = scene.gaussians.rotations[0, 0, 0]
    np.testing.assert_allclose(got * np.sign(got @ quat), quat, atol=2e-3)
    assert scene.metric and not scene.world_is_reference


def test_poses_that_give_no_scale_are_refused(perfect):
    """Cameras in one place cannot scale a scene."""
    model, photos, _, _, _ = perfect
    with pytest.raises(known_cameras.CameraError, match="one place"):
        reconstruct(
            photos, model, cameras=KnownCameras(world_from_cam=np.tile(np.eye(4), (3, 1, 1)))
        )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotated_sh_shows_the_same_color(degree):
    """Turning the coefficients and the direction together changes nothing."""
    rng = np.random.default_rng(0)
    rotation = np.array(transforms.rotation_from_axis_angle(jnp.array([0.4, -1.1, 0.7])))
    count = (degree + 1) ** 2
    coefficients = rng.normal(size=(5, 3 * count)).astype(np.float32)
    turned = known_world.rotate_sh(coefficients, rotation)
    directions = rng.normal(size=(5, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def color(c, d):
        return np.einsum("nk,nkc->nc", known_world._sh_matrix(d, count), c.reshape(5, count, 3))

    want = color(coefficients, directions)
    np.testing.assert_allclose(color(turned, directions @ rotation.T), want, atol=1e-5)


def test_cameras_are_read_back_from_our_own_file(perfect, tmp_path):
    """cameras.json and nerfstudio's transforms.json of an export are known cameras again."""
    model, photos, _, _, poses = perfect
    photos = [dataclasses.replace(p, name=f"{i}.jpg") for i, p in enumerate(photos)]
    scene = reconstruct(photos, model)
    scene.save(tmp_path, ["cameras", "nerfstudio"])
    for path in (tmp_path / "cameras.json", *tmp_path.rglob("transforms.json")):
        known = known_cameras.read_cameras(path, ["2.jpg", "0.jpg"])
        # nerfstudio's world is turned to have z up; the relative pose does not know of it.
        relative = np.linalg.inv(known.world_from_cam[1]) @ known.world_from_cam[0]
        np.testing.assert_allclose(relative, poses[2], atol=2e-3)
        np.testing.assert_allclose(known.intrinsics[:, 0, 0], 110, rtol=1e-3)
    with pytest.raises(known_cameras.CameraError, match=r"no camera for 9.jpg"):
        known_cameras.read_cameras(tmp_path / "cameras.json", ["9.jpg"])


def transforms_file(path, *frames, **common):
    """A nerfstudio file of frames given as (file_path, further fields); poses are the identity."""
    frames = [{"file_path": f, "transform_matrix": np.eye(4).tolist(), **x} for f, x in frames]
    path.write_text(json.dumps({**common, "frames": frames}))
    return path


def test_cameras_are_found_by_the_longest_path(tmp_path):
    """Photographs of one name in two folders have their own cameras, never each other's."""
    frames = [
        (f"{side}/0001.png", {"fl_x": f, "cx": 5, "cy": 5}) for side, f in (("l", 1), ("r", 2))
    ]
    path = transforms_file(tmp_path / "t.json", *frames)
    known = known_cameras.read_cameras(path, ["/data/r/0001.jpg", "/data/l/0001.jpg"])
    np.testing.assert_array_equal(known.intrinsics[:, 0, 0], [2, 1])
    with pytest.raises(known_cameras.CameraError, match=r"may be any of l/0001.png, r/0001.png"):
        known_cameras.read_cameras(path, ["0001.png"])
    one = transforms_file(tmp_path / "one.json", frames[0])
    with pytest.raises(known_cameras.CameraError, match="l/0001.png, for both l/0001.png and r/"):
        known_cameras.read_cameras(one, ["l/0001.png", "r/0001.png"])
    assert known_cameras.read_cameras(one, ["l/0001.png"] * 2).intrinsics.shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(fl_x=50, fl_y=60, cx=31.0, cy=20.0), (50, 60, 30.5, 19.5)),
        (dict(fl_x=50, w=64, h=48), (50, 50, 31.5, 23.5)),
        (dict(camera_angle_x=np.pi / 2, w=64, h=48), (32, 32, 31.5, 23.5)),
        (dict(camera_angle_x=np.pi / 2), None),
        (dict(), None),
    ],
)
def test_nerfstudio_intrinsics(tmp_path, fields, expected):
    """Focal length or field of view; the middle where no center is given; else said to lack."""
    path = transforms_file(tmp_path / "t.json", ("a.png", {}), ("b.png", {}), **fields)
    known = known_cameras.read_cameras(path, ["a.png", "b.png"])
    assert known.world_from_cam.shape == (2, 4, 4)
    if expected is None:
        assert known.intrinsics is None
        assert "no intrinsics for a.png, b.png, so none are taken" in known.left_out[0]
    else:
        k = known.intrinsics[1]
        np.testing.assert_allclose([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(k1=0.1, p2=-0.01), r"b.png has lens distortion \(k1 = 0.1, p2 = -0.01\)"),
        (dict(camera_model="OPENCV_FISHEYE"), "OPENCV_FISHEYE"),
    ],
)
def test_lenses_that_are_no_pinholes_are_refused(tmp_path, fields, message):
    """Unless only the poses are wanted, or the camera is of another photograph."""
    path = transforms_file(tmp_path / "t.json", ("a.png", {"k1": 0.0}), ("b.png", fields))
    with pytest.raises(known_cameras.CameraError, match=message):
        known_cameras.read_cameras(path, ["b.png"])
    assert known_cameras.read_cameras(path, ["b.png"], "poses").world_from_cam is not None
    known_cameras.read_cameras(path, ["a.png"])


def test_intrinsics_of_another_size_are_scaled_or_refused(perfect):
    """Half as large an image gives the same scene; an image of another shape does not fit."""
    model, photos, *_ = perfect
    at_half = np.tile(np.array([[55.0, 0, 29.75], [0, 55, 24.75], [0, 0, 1]]), (3, 1, 1))
    sizes = np.tile([48, 64], (3, 1))
    scene = reconstruct(photos, model, cameras=KnownCameras(at_half, image_sizes=sizes))
    expected = [[110, 0, 60], [0, 110, 50], [0, 0, 1]]
    np.testing.assert_allclose(scene.original_intrinsics[1], expected, rtol=1e-5, atol=1e-5)
    turned = KnownCameras(at_half, image_sizes=sizes[:, ::-1])
    with pytest.raises(known_cameras.CameraError, match="a has 128 x 96 pixels.* 48 x 64"):
        reconstruct(photos, model, cameras=turned)
    with pytest.raises(ValueError, match=r"128 x 96 pixels: its principal point \(300.0, 50.0\)"):
        outside = at_half.copy()
        outside[:, :2, 2] = [300.0, 50.0]
        reconstruct(photos, model, cameras=KnownCameras(outside))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"views": [{}]}', '{"frames": [{"a": 1}]}', "x"])
def test_other_camera_files_are_refused(tmp_path, text):
    """What is neither format says so."""
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(known_cameras.CameraError, match="c.json"):
        known_cameras.read_cameras(tmp_path / "c.json", ["a.jpg"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(intrinsics=np.eye(3)), r"\[V, 3, 3\]"),
        (dict(intrinsics=-np.eye(3)[None]), "not positive"),
        (dict(world_from_cam=np.full((1, 4, 4), np.nan)), "finite"),
        (dict(world_from_cam=2 * np.eye(4)[None]), "no rotation"),
    ],
)
def test_impossible_cameras_are_refused(fields, message):
    """Shapes, signs and rotations are checked where they are given."""
    with pytest.raises(known_cameras.CameraError, match=message):
        KnownCameras(**fields)


# ---------------------------------------------------------------- memory


def test_estimates_grow_with_everything():
    """More views, paths or pixels never need less."""
    base = memory.estimate(CONFIG, 4, 2, 32, 32)
    for other in [(8, 2, 32, 32), (4, 4, 32, 32), (4, 2, 64, 32)]:
        more = memory.estimate(CONFIG, *other)
        assert more.bytes >= base.bytes and more.flops > base.flops


def test_the_largest_number_of_views_fits():
    """It fits the limit exactly: one more does not."""
    limit = 700 << 20
    views = memory.largest_view_count(CONFIG, 4, 64, 64, limit)
    assert views > 2
    assert memory.estimate(CONFIG, views, 4, 64, 64).bytes <= limit
    assert memory.estimate(CONFIG, views + 1, 4, 64, 64).bytes > limit
    with pytest.raises(memory.MemoryLimitError, match=f"at most {views} views fit"):
        memory.check(CONFIG, 100 * views, 4, 64, 64, limit)


def test_estimates_are_what_was_measured():
    """Within a fifth of the peak memory of whole runs."""
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "many_views.json"
    rows = json.loads(path.read_text())["results"]
    assert max(row["V"] for row in rows) >= 24
    for row in rows:
        size = map(int, row["size"].split("x"))
        needed = memory.estimate(VARIANTS[row["weights"]], row["V"], row["R"], *size)
        assert 0.8 < needed.bytes / 2**30 / row["peak GiB"] < 1.25, row


def test_loaded_weights_are_not_counted_twice(monkeypatch):
    """What is free after loading needs to hold only the rest."""
    config = VARIANTS["mvdp"]
    needed = memory.estimate(config, 4, 4, 224, 224).bytes
    held = 4 * memory.parameter_count(config)
    assert held > needed / 3
    for spare, fits in ((0, True), (-1, False)):
        monkeypatch.setattr(memory, "free_bytes", lambda free=needed - held + spare: free)
        if fits:
            memory.check(config, 4, 4, 224, 224)
        else:
            with pytest.raises(memory.MemoryLimitError, match="can be used"):
                memory.check(config, 4, 4, 224, 224)


def test_containers_page_cache_is_free(tmp_path, monkeypatch):
    """A cgroup's limit less its use, of which inactive files can be given up; none without one."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory._container_available() is None
    stat = "anon 300\nfile 500\ninactive_file 400\nactive_file 100\n"
    for name, text in (("max", "1000\n"), ("current", "800\n"), ("stat", stat)):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory._container_available() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container_available() is None
