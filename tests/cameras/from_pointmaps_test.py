"""Focal lengths and poses from pointmaps: golden numbers, exact recovery, outliers, failures."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.pose import opencv_pose
from mvdust3r_jax.cameras import from_pointmaps, pnp
from mvdust3r_jax.geometry import transforms
from tests.compiled import Compiled, compiled, normal

transforms = Compiled(transforms)
focal_from_pointmap = compiled(from_pointmaps.focal_from_pointmap)
GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
HEIGHT, WIDTH, FOCAL = 48, 64, 70.0


def _views(num_views, noise=0.0, outliers=0.0, seed=0, aspect=1.0, moved_px=(0, 0)):
    """Pointmaps of wavy walls in a reference frame, and the true poses.

    moved_px: how far off the published recipe's the principal points are, of all views or of each.
    """
    rng = np.random.default_rng(seed)
    principal = from_pointmaps.published_principal(HEIGHT, WIDTH)
    pixels = np.asarray(compiled(from_pointmaps.centered_pixels)(HEIGHT, WIDTH, principal))
    phase = np.arange(num_views)[:, None, None]
    wave = np.sin(pixels[None, ..., 0] / 12 + phase) + (pixels[None, ..., 1] > 4)
    depth = 3 + np.where(phase % 3 == 0, pixels[None, ..., 0] / 60, wave)
    moved_px = np.broadcast_to(np.reshape(moved_px, (-1, 1, 1, 2)), (num_views, 1, 1, 2))
    rays = (pixels[None] - moved_px) * [1, aspect] / FOCAL
    points = np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)
    axis_angle = np.float32(rng.normal(size=(num_views, 3)))
    rotation = transforms.rotation_from_axis_angle(axis_angle)
    ref_from_cam = transforms.rigid(rotation, np.float32(rng.normal(size=(num_views, 3))))
    points = np.array(transforms.transform_points(ref_from_cam, np.float32(points)))
    points += noise * rng.normal(size=points.shape)
    wild = rng.random(points.shape[:-1]) < outliers
    points[wild] = 3 * rng.normal(size=(wild.sum(), 3))
    return np.float32(points), np.asarray(ref_from_cam)


def _poses(points, confidence=None, focal_px=FOCAL, aspect=1.0, **options):
    """Four views as two scenes of two, so that all tests share one compiled program."""
    confidence = np.ones(points.shape[:-1]) if confidence is None else confidence
    found = from_pointmaps.poses_from_pointmaps(
        jnp.asarray(points.reshape(2, 2, HEIGHT, WIDTH, 3)),
        jnp.asarray(confidence.reshape(2, 2, HEIGHT, WIDTH), jnp.float32),
        jnp.asarray(np.full(2, focal_px), jnp.float32),
        aspect=jnp.asarray(np.full(2, aspect), jnp.float32),
        **options,
    )
    return jax.tree.map(lambda x: x.reshape(4, *x.shape[2:]), jax.device_get(found))


def _errors(estimate, truth):
    angles = transforms.rotation_angle_deg(estimate[..., :3, :3], truth[..., :3, :3])
    return np.asarray(angles), np.linalg.norm(estimate[..., :3, 3] - truth[..., :3, 3], axis=-1)


def _opencv_pose(points, focal_px):
    height, width = points.shape[:2]
    return opencv_pose(points, focal_px, (width / 2, height / 2))


def test_focal_matches_golden():
    """Clean, noisy, outliers, Z = 0, sparse, empty (NaN) and behind-camera cases all agree."""
    golden = np.load(GOLDEN / "focal.npz")
    focal = focal_from_pointmap(golden["pts3d"], golden["mask"])
    np.testing.assert_allclose(focal, golden["focal"], rtol=2e-5)
    mask = compiled(from_pointmaps.confident_mask)(golden["conf"])
    np.testing.assert_array_equal(mask, golden["conf_mask"])
    focal = focal_from_pointmap(golden["pts3d"], mask)
    np.testing.assert_allclose(focal, golden["focal_confmask"], rtol=2e-5)


def test_each_axis_may_have_its_own_focal_length():
    """Of pixels that are not square poses are exact; taken for square ones, they are not."""
    points, truth = _views(4, aspect=1.3)
    for aspect, exact in ((1.3, True), (1.0, False)):
        angles, distances = _errors(_poses(points, aspect=aspect).ref_from_cam, truth)
        assert (np.max(angles) < 0.05 and np.max(distances) < 5e-3) == exact


def test_focal_rejects_another_mask():
    """A mask of another shape is named in the error."""
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        from_pointmaps.focal_from_pointmap(jnp.ones((4, 5, 3)), jnp.ones((4, 4), bool))


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_masked_pixels_have_no_gradient_of_the_focal_length(wrong):
    """Also at the origin, where x/z is 0/0; and nothing has where all are masked."""
    points, confidence = _views(1)[0][0, :8, :8], np.ones((2, 8, 8), np.float32)
    points[2, 3] = wrong
    confidence[0, 2, 3] = confidence[1] = 0

    def total(points):
        both = jnp.stack([points, points])
        return jnp.nansum(from_pointmaps.confident_focal(both, jnp.asarray(confidence)))

    gradient = np.asarray(jax.jit(jax.grad(total))(points))
    assert np.isfinite(gradient).all() and gradient[0, 0].any() and not gradient[2, 3].any()


def test_p3p_contains_the_truth():
    """One of the four minimal solutions is the pose behind the rays, for nearly all samples."""
    points = np.asarray(normal(0, 200, 3, 3))
    rotation = np.asarray(transforms.rotation_from_quat(normal(1, 200, 4)))
    translation = np.float32([0.1, -0.2, 5.0])
    seen = np.einsum("nij,nkj->nki", rotation, points) + translation
    rotations, _ = jax.jit(jax.vmap(pnp.p3p))(seen[..., :2] / seen[..., 2:], points)
    angles = transforms.rotation_angle_deg(
        rotations, np.broadcast_to(rotation[:, None], rotations.shape)
    )
    defined = np.isfinite(rotations).all((-1, -2))
    best = np.min(np.where(defined, angles, 180.0), axis=1)
    # Triangles near the danger cylinder are ill-conditioned in float32.
    assert np.mean(best < 0.1) > 0.95


def test_exact_pointmaps_give_exact_poses():
    """Without noise the poses come back to float32, batched over scenes."""
    points, truth = _views(4)
    found = _poses(points)
    angles, distances = _errors(found.ref_from_cam, truth)
    assert found.ok.all()
    np.testing.assert_allclose(found.inlier_share, 1.0)
    assert angles.max() < 1e-2 and distances.max() < 1e-3


@pytest.mark.parametrize("focal_factor", [1.0, 1.1])
def test_not_worse_than_opencv(focal_factor):
    """With noise, 30 % outliers and a wrong focal the median errors do not exceed OpenCV's.

    Of each view over the seeds: a wrong focal length turns one scene by 0.5 degrees and another by
    1.2, so that a median over scenes too would fall into the gap between them.
    """
    ours, theirs = [], []
    for seed in range(12):
        points, truth = _views(4, noise=0.03, outliers=0.3, seed=seed)
        focal_px = FOCAL * focal_factor
        found = _poses(points, focal_px=focal_px)
        assert found.ok.all()
        ours.append(_errors(found.ref_from_cam, truth))
        oracle = np.stack([_opencv_pose(p, focal_px) for p in points])
        theirs.append(_errors(np.float32(oracle), truth))
    ours, theirs = np.array(ours), np.array(theirs)
    # 10 %: two estimators of the same truth from the same noise.
    medians = np.median(ours, axis=0), np.median(theirs, axis=0)
    assert np.all(medians[0] <= 1.1 * medians[1]), medians


def test_confidence_hides_pixels():
    """Pixels of confidence 0 or with a non-finite point do not influence the pose."""
    points, truth = _views(4)
    confidence = np.ones(points.shape[:-1])
    confidence[:, :20], points[:, :20], points[:, 30] = 0, 1.0, np.nan
    found = _poses(points, confidence)
    angles, _ = _errors(found.ref_from_cam, truth)
    assert found.ok.all() and angles.max() < 1e-2


def test_the_surer_pixels_decide():
    """Where two fifths of the pixels say one pose, surely, and the others say another."""
    points, truth = _views(4)
    confidence = np.full(points.shape[:-1], 10.0)
    confidence[:, :, 26:], points[:, :, 26:, 0] = 0.01, points[:, :, 26:, 0] + 1
    found = _poses(points, confidence)
    angles, distances = _errors(found.ref_from_cam, truth)
    assert found.ok.all() and angles.max() < 0.05 and distances.max() < 5e-3


def test_failures_are_flagged():
    """Random points, coinciding points and empty views are no poses: not ok, and NaN."""
    random = np.asarray(normal(0, HEIGHT, WIDTH, 3)) + np.float32([0, 0, 4])
    points = np.stack([random, np.ones_like(random), random, random])
    confidence = np.ones(points.shape[:-1])
    confidence[2:] = 0
    found = _poses(points, confidence)
    assert not found.ok.any()
    assert np.isnan(found.ref_from_cam).all()
    np.testing.assert_array_equal(found.inlier_share[1:], 0)


def test_no_smallest_share_makes_a_failure_a_pose():
    """Without a single inlier a view is not ok, even where every share is allowed."""
    found = _poses(np.ones((4, HEIGHT, WIDTH, 3), np.float32), min_inlier_share=0.0)
    assert not found.ok.any() and np.isnan(found.ref_from_cam).all()


def test_shapes_are_checked():
    """An error quotes what was expected and what came."""
    with pytest.raises(ValueError, match="expected"):
        from_pointmaps.poses_from_pointmaps(
            jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4)), jnp.ones(2)
        )


def test_cameras_are_seen_from_the_reference_view():
    """Of view 1 as the reference the pose is the identity; its map and middle give the focal."""
    moved_px = np.float32([[-5, 3], [7, -4]] * 2)
    points, ref_from_cam = _views(4, moved_px=moved_px)
    scenes = points.reshape(2, 2, HEIGHT, WIDTH, 3)
    second_from_ref = np.asarray(transforms.invert_rigid(ref_from_cam.reshape(2, 2, 4, 4)[:, 1]))
    scenes = transforms.transform_points(second_from_ref, scenes)
    ones = jnp.asarray(np.ones(scenes.shape[:-1]), jnp.float32)
    principal_px = np.float32([WIDTH / 2, HEIGHT / 2]) + moved_px.reshape(2, 2, 2)
    focal_px, found = jax.device_get(
        from_pointmaps.cameras_from_pointmaps(
            scenes, ones, reference=jnp.asarray([1, 1]), principal_px=jnp.asarray(principal_px)
        )
    )
    np.testing.assert_allclose(focal_px, FOCAL, rtol=1e-4)
    wanted = second_from_ref[:, None] @ ref_from_cam.reshape(2, 2, 4, 4)
    angles, distances = _errors(found.ref_from_cam, wanted)
    assert found.ok.all() and angles.max() < 1e-2 and distances.max() < 1e-3
