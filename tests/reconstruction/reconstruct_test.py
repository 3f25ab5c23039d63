"""Reconstruction end to end with a tiny random network: order, shapes, files, wrong arguments."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax import MVDust3r
from mvdust3r_jax import reconstruct as reconstruct_function
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.reconstruction.model import Model, load_model
from mvdust3r_jax.reconstruction.network import features_of
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.reconstruction.traced import forward
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import places
from tests.reconstruction.perfect_network import CONFIG

SIZE = (16, 24)


@pytest.fixture(scope="module")
def model():
    tree = abstract_variables(CONFIG)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    return Model(CONFIG, variables, SIZE, "test")


def photographs(count, height=40, width=50):
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 255, (count, height, width, 3), dtype=np.uint8))


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


def test_features_are_a_photographs_own(model):
    """Whatever group it is encoded in, the last of which is filled up."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, *SIZE, 3), dtype=np.uint8)
    whole = features_of(model, pixels, 5)
    np.testing.assert_allclose(features_of(model, pixels, 2), whole, rtol=1e-4, atol=1e-5)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


@pytest.mark.parametrize("window_by", ["order", "likeness"])
@pytest.mark.parametrize("reference", ["first", 3])
def test_windows_are_one_scene_in_the_frame_of_the_reference(model, window_by, reference):
    """Of all photographs; whichever is asked for, also one that the first window would lack."""
    images = photographs(5)
    scene = reconstruct(images, model, window=3, window_by=window_by, reference=reference)
    assert scene.reference == (0 if reference == "first" else reference)
    np.testing.assert_array_equal(scene.world_from_cam[scene.reference], np.eye(4))
    assert np.isfinite(scene.points).all() and (np.abs(scene.points).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("window", [None, 3])
def test_asked_of_the_mirror_too_the_answer_is_a_mirror_s(model, window):
    """Mirrored photographs give the mirrored scene, up to its scale; asked once they do not."""
    images = photographs(5)
    given = dict(reference=1, window=window)
    turned = [image[:, ::-1] for image in images]

    def apart(**options):
        seen, image = (reconstruct(x, model, **given, **options).points for x in (images, turned))
        image = image[:, :, ::-1] * np.float32([-1, 1, 1])
        image = image * np.abs(seen).mean() / np.abs(image).mean()
        return np.abs(image - seen).mean() / np.abs(seen).mean()

    assert apart(mirrored=True) < 1e-3 < apart()


def test_asked_of_the_mirror_too_a_scene_keeps_its_gaussians_and_its_windows(model, tmp_path):
    """Those of the first pass; what windows gave that were asked once is not taken for theirs."""
    given = dict(reference=1, window=3, kept_in=tmp_path)
    once, twice, again = (
        reconstruct(photographs(5), model, **given, mirrored=x) for x in (False, True, True)
    )
    np.testing.assert_array_equal(twice.points, again.points)
    assert np.abs(twice.points - once.points).max() > 1e-3
    assert once.gaussians.opacities.shape == twice.gaussians.opacities.shape == (5, *SIZE)


def test_a_misspelled_way_of_windows_is_refused(model):
    """Before anything is read."""
    with pytest.raises(ValueError, match="'order' or 'likeness', got 'likenes'"):
        reconstruct(photographs(5), model, window=3, window_by="likenes")


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
    arrays = [x for x in jax.tree.leaves(vars(scene)) if hasattr(x, "shape")]
    arrays += jax.tree.leaves(scene.gaussians)
    assert all(isinstance(x, np.ndarray) and x.flags.writeable for x in arrays)


def test_a_transparent_photograph_is_called_so(model):
    """No mask was given, so the message is about none."""
    images = [
        np.dstack([photo, np.full((40, 50), 255 * i, np.uint8)])
        for i, photo in enumerate(photographs(2))
    ]
    with pytest.raises(ValueError, match="image_0000 is transparent everywhere") as caught:
        reconstruct(images, model)
    assert "mask" not in str(caught.value)


def test_a_second_scene_of_the_same_shape_is_not_compiled(model):
    """One program per number of views, whatever the photographs."""
    reconstruct(photographs(3), model)
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    reconstruct([p[::-1] for p in photographs(3)], model)
    assert [event for event in events if "backend_compile" in event] == []


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
        load_model(places.SHIPPED[0])
    assert "clone of the repository" in missing.value.__notes__[0]
    assert reconstruct_function is reconstruct


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(images="photo.jpg"), "list of photographs, got a single path"),
        (dict(images=7), "list of photographs, got int"),
        (dict(images=[1, 2]), "an array or a PIL image, got int"),
        (dict(images=photographs(1)), "at least 2 images are needed, got 1"),
        (dict(size=(20, 24)), "multiples of 8, got 20 x 24"),
        (dict(size=(16, 24, 3)), r"\(height, width\) in pixels, got \(16, 24, 3\)"),
        (dict(num_refs=0), "at least 1, got 0"),
        (dict(num_refs=1.0), "a whole number of at least 1, got 1.0"),
        (dict(reference=1.0), "from 0 to 1, got 1.0"),
        (dict(reference=True), "from 0 to 1, got True"),
        (dict(fit="stretch"), "crop, pad"),
        (dict(masks=[np.ones((40, 50))]), "1 masks do not fit 2 images"),
        (dict(focal_px=-3.0), "positive"),
        (dict(focal_px=True), "one of .*, got True"),
        (dict(images=photographs(1)[0]), r"got one array of the shape \(\d+, \d+, 3\)"),
        (dict(focal_px="exif"), "no EXIF focal length in image_0000"),
        (dict(focal_px="auto"), "one of .*, got 'auto'"),
        (dict(focal_px=[30.0] * 3), r"one for each of 2 images, got \(3,\)"),
        (dict(focal_px=30.0, cameras=KnownCameras(np.tile(np.eye(3), (2, 1, 1)))), "give one"),
        (dict(kept_in="windows"), "kept_in is about windows"),
        (dict(masks=[np.ones((40, 50, 4))] * 2), r"a mask is .* got float64 \[40, 50, 4\]"),
        (dict(memory_limit=1000), "GiB can be used"),
        (dict(cameras=KnownCameras(np.tile(np.eye(3), (3, 1, 1)))), "3 intrinsics"),
    ],
)
def test_wrong_arguments(model, arguments, message):
    """Each is one sentence with what was expected and received."""
    with pytest.raises(ValueError, match=message):
        reconstruct(**(dict(images=photographs(2), model=model) | arguments))


def test_arrays_of_any_library_in_any_iterable(model):
    """JAX arrays of a generator, an index of NumPy and one number as the size: the same scene."""
    photos = photographs(3)
    want = reconstruct(photos, model, reference=1, size=(16, 16))
    masks = [None, np.ones((40, 50)), None]
    given = (jnp.asarray(photo) for photo in photos)
    got = reconstruct(given, model, reference=np.int64(1), size=16, masks=masks)
    np.testing.assert_array_equal(got.points, want.points)
    assert got.reference == 1 and json.dumps(got.reference) == "1"


def test_names_of_a_scene_are_distinct_texts(model, tmp_path):
    """Equal names in two folders, and bytes that are no UTF-8, reach every format."""
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / os.fsdecode(b"1\xff.png")]
    paths.append(tmp_path / "b" / "1.png")
    for path, photo in zip(paths, photographs(3), strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo).save(path)
    scene = reconstruct(paths, model)
    assert scene.names == ["a_1.png", "b_1\xff.png", "b_1.png"]
    scene.save(tmp_path / "out", ["colmap", "nerfstudio", "depth"])


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_identical_photographs(model, value):
    """Nothing to see gives a valid scene, not an error."""
    scene = reconstruct([np.full((9, 9, 3), value, np.uint8)] * 2, model)
    assert np.isfinite(scene.points).all() and np.isfinite(scene.intrinsics).all()


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
