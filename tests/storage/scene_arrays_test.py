"""A scene's file is read whole, or refused with the field that does not fit."""

import dataclasses
import json

import numpy as np
import pytest
from export_scene import box_room

from mvdust3r_jax.reconstruction.scene import Scene


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Name to array of a scene's file."""
    path = tmp_path_factory.mktemp("scene") / "scene.npz"
    box_room(2, height=8, width=12).save_arrays(path)
    with np.load(path) as arrays:
        return dict(arrays)


def with_meta(arrays, **changes):
    meta = json.loads(str(arrays["meta"])) | changes
    return arrays | {"meta": np.array(json.dumps(meta))}


@pytest.mark.parametrize(
    "field", ["confidence", "masks", "intrinsics", "names", "gaussians_scales"]
)
def test_fields_of_another_shape_are_named(tmp_path, stored, field):
    """One view less than the others have."""
    if field == "names":
        changed = with_meta(stored, names=["a"])
    else:
        changed = stored | {field: stored[field][:1]}
    np.savez(tmp_path / "s.npz", **changed)
    with pytest.raises(ValueError, match=rf"s\.npz is no scene.*{field.split('_')[-1][:5]}"):
        Scene.load(tmp_path / "s.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros(3)}, "points have the shape"),
        ({"intrinsics": np.full((2, 3, 3), np.nan)}, "intrinsics are no cameras'"),
        ({"original_sizes": np.zeros((2, 2), int)}, "original sizes"),
        ({"images_01": np.full((2, 8, 12, 3), np.inf)}, "images have values"),
        ({"pose_ok": np.array(["a", "b"])}, "pose_ok have the type"),
        ({"more": np.zeros(2)}, "more"),
        ({"gaussians_more": np.zeros(2)}, "more"),
        ({"gaussians_colors": np.zeros((2, 8, 12, 5), np.float32)}, "Gaussians' colors"),
        ({"points": None}, "points"),
    ],
)
def test_edited_files_are_refused_by_name(tmp_path, stored, changes, message):
    """Fields that are missing, unknown, of a foreign type or impossible."""
    arrays = {name: array for name, array in (stored | changes).items() if array is not None}
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=rf"s\.npz is no scene of this package: .*{message}"):
        Scene.load(tmp_path / "s.npz")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_truncated_files_are_named(tmp_path, share):
    """As damaged, whatever the archive's reader makes of them."""
    path = box_room(2, height=8, width=12).save_arrays(tmp_path / "s.npz")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"s\.npz is damaged"):
        Scene.load(path)


def test_far_worlds_keep_their_digits_in_the_file(tmp_path):
    """float64 points and poses come back as they are."""
    scene = box_room(2, height=8, width=12)
    far = dataclasses.replace(
        scene,
        points=scene.points + np.array([4e5, 5e6, 0]),
        world_from_cam=scene.world_from_cam.astype(np.float64),
        world_is_reference=False,
    )
    loaded = Scene.load(far.save_arrays(tmp_path / "s.npz"))
    np.testing.assert_array_equal(loaded.points, far.points)
    assert loaded.points.dtype == loaded.world_from_cam.dtype == np.float64
