"""Point, pose and image metrics against golden numbers, and against what is known by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.metrics import chamfer, poses
from mvdust3r_jax.metrics import images as image_metrics
from mvdust3r_jax.metrics import pointmaps as metrics
from mvdust3r_jax.metrics.chamfer import chamfer_distance_kdtree
from mvdust3r_jax.metrics.poses import view_pairs
from tests.compiled import Compiled, compiled, normal, uniform

transforms, chamfer, image_metrics, metrics = map(
    Compiled, (transforms, chamfer, image_metrics, metrics)
)
mean_average_accuracy = compiled(poses.mean_average_accuracy)
pair_errors, pair_errors_release = map(compiled, (poses.pair_errors, poses.pair_errors_release))
share_below = compiled(poses.share_below)

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
CASES = ["dense", "sparse", "empty_sample", "render_view", "eval_levels", "eval_far_degenerate"]


def _golden_clouds(golden):
    """Prediction, truth in view 0's frame, and mask of the input views, rubbish included."""
    num_inputs = golden["pred_pts3d"].shape[1]
    ref_from_world = np.linalg.inv(golden["camera_pose"][:, 0])[:, None, None, None]
    world = golden["gt_pts3d"].astype(np.float64)[..., None]
    truth = (ref_from_world[..., :3, :3] @ world)[..., 0] + ref_from_world[..., :3, 3]
    return (
        jnp.asarray(golden["pred_pts3d"]),
        jnp.asarray(truth[:, :num_inputs], jnp.float32),
        jnp.asarray(golden["valid_mask"][:, :num_inputs]),
    )


@pytest.mark.parametrize("case", CASES)
def test_points_match_golden(case):
    """ND per view and sample, and accuracies, equal the release's, degenerate samples included."""
    golden = np.load(GOLDEN / f"pointmap_{case}.npz")
    found = metrics.point_errors(*_golden_clouds(golden))
    np.testing.assert_allclose(
        jnp.nan_to_num(found.per_view), golden["eval_ls"], rtol=2e-5, atol=1e-6
    )
    np.testing.assert_allclose(found.nd_release, golden["eval_nd"], rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics.accuracy(found.nd_release), golden["eval_acc"])


@pytest.mark.parametrize("case", CASES)
def test_chamfer_of_aligned_clouds_matches_golden(case):
    """The blocked distance and the KD-tree agree with the golden chamfer of the aligned clouds."""
    golden = np.load(GOLDEN / f"pointmap_{case}.npz")
    points, truth, valid = _golden_clouds(golden)
    aligned, truth = metrics.align_pointmaps(points, truth, valid)
    batch = len(valid)
    flat = [x.reshape(batch, -1, 3) for x in (aligned, truth)]
    mask = valid.reshape(batch, -1)
    blocked = chamfer.chamfer_distance(flat[0], mask, flat[1], mask)
    np.testing.assert_allclose(blocked, golden["eval_cd_raw"], rtol=1e-4)
    for b in range(batch):
        keep = np.asarray(mask[b])
        tree = chamfer_distance_kdtree(*(np.asarray(x[b])[keep] for x in flat))
        np.testing.assert_allclose(tree, golden["eval_cd_raw"][b], rtol=1e-4)


@pytest.mark.parametrize("case", ["dense", "eval_levels"])
def test_similarity_error_matches_golden(case):
    """The error after a least-squares similarity is the golden one."""
    golden = np.load(GOLDEN / f"pointmap_{case}.npz")
    found = metrics.similarity_error(*_golden_clouds(golden))
    np.testing.assert_allclose(found, golden["eval_umeyama_err"], rtol=1e-4)


def test_empty_is_never_perfect():
    """An empty sample has no ND; an empty view does not lower it."""
    golden = np.load(GOLDEN / "pointmap_empty_sample.npz")
    found = metrics.point_errors(*_golden_clouds(golden))
    assert np.isnan(found.nd[1]) and found.nd_release[1] == 0
    assert np.isnan(metrics.accuracy(found.nd)[1]).all()
    golden = np.load(GOLDEN / "pointmap_sparse.npz")
    found = metrics.point_errors(*_golden_clouds(golden))
    assert np.all(found.nd > found.nd_release)


def test_multiref_matches_golden():
    """ND, chamfer and the slot-wise best over references equal the release's numbers."""
    golden = np.load(GOLDEN / "multiref.npz")
    n_ref, order = int(golden["n_ref"]), golden["view_order"]
    sample = np.repeat(np.arange(len(golden["gt_pts3d"])), n_ref)
    poses = golden["camera_pose"][sample[:, None], order]
    ref_from_world = np.linalg.inv(poses[:, 0])[:, None, None, None]
    world = golden["gt_pts3d"][sample[:, None], order].astype(np.float64)[..., None]
    truth = (ref_from_world[..., :3, :3] @ world)[..., 0] + ref_from_world[..., :3, 3]
    valid = jnp.asarray(golden["valid_mask"][sample[:, None], order])
    truth = jnp.asarray(truth, jnp.float32)
    found = metrics.point_errors(jnp.asarray(golden["pred_pts3d"]), truth, valid)
    per_slot = jnp.nan_to_num(found.per_view).reshape(golden["ls"].shape)
    np.testing.assert_allclose(per_slot, golden["ls"], rtol=2e-5)
    np.testing.assert_allclose(found.nd_release.reshape(-1, n_ref), golden["nd"], rtol=2e-5)
    np.testing.assert_allclose(per_slot.min(axis=1).mean(), golden["pts3d_best"], rtol=2e-5)


def test_similarity_changes_nothing():
    """Scaling and moving the prediction leaves ND unchanged; noise of known size moves it."""
    truth = np.asarray(normal(0, 1, 3, 24, 32, 3)) + np.float32([0, 0, 3])
    valid = np.asarray(uniform(1, *truth.shape[:-1])) < 0.8
    moved = 7.5 * truth + 2.0
    assert metrics.point_errors(moved, truth, valid).nd < 1e-5
    noise = np.float32(0.01) * np.asarray(normal(2, *truth.shape))
    # Mean length of a 3-D Gaussian error: sigma * 2 sqrt(2 / pi). The noise also moves the medians
    # by which the clouds are aligned.
    expected = 0.01 * 2 * np.sqrt(2 / np.pi)
    np.testing.assert_allclose(
        metrics.point_errors(truth + noise, truth, valid).nd, expected, rtol=0.1
    )


def test_noise_moves_the_chamfer_distance_by_twice_its_square():
    """Every point's nearest neighbor is its own noisy copy: mean squared length, both ways."""
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(1, -1, 3)
    grid, noise = np.float32(grid), np.float32(0.01) * np.asarray(normal(0, *grid.shape))
    known = np.ones(grid.shape[:2], bool)
    found = chamfer.chamfer_distance(grid + noise, known, grid, known)
    # The coordinates have seven digits, their differences five.
    np.testing.assert_allclose(found, 2 * np.mean(np.sum(noise**2, axis=-1)), rtol=1e-3)


def test_turned_cameras_move_the_pose_errors_by_the_angles():
    """Cameras along x, turned about z by 0, 4, 10 and 30 degrees: all by hand."""
    turns_deg = np.array([0.0, 4.0, 10.0, 30.0])
    positions = np.outer([0, 1, 3, 4], [1, 0, 0]).astype(np.float32)
    axis_angle = np.outer(np.deg2rad(turns_deg), [0, 0, 1]).astype(np.float32)
    found = transforms.rigid(transforms.rotation_from_axis_angle(axis_angle), positions)
    truth = transforms.rigid(np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)), positions)
    errors = pair_errors(found, truth, np.ones(4, bool))
    i, j = view_pairs(4)
    rotation, direction = np.abs(turns_deg[j] - turns_deg[i]), turns_deg[i]
    np.testing.assert_allclose(errors.rotation_deg, rotation, atol=1e-2)
    np.testing.assert_allclose(errors.translation_deg, direction, atol=1e-2)
    # Of six pairs 4, 10 and 6 degrees are below 15; all directions but none of the last camera.
    assert share_below(errors.rotation_deg) == 0.5
    assert share_below(errors.translation_deg) == 1
    larger = np.maximum(rotation, direction)[:, None]
    by_hand = (larger < np.arange(1, 31) - 0.1).mean()
    exact = jax.tree.map(np.round, jax.device_get(errors))
    np.testing.assert_allclose(mean_average_accuracy(exact), by_hand, rtol=1e-6)
    # A millimeter apart they have directions as well.
    near = [np.array(cameras) for cameras in (found, truth)]
    for cameras in near:
        cameras[:, :3, 3] *= 1e-3
    near = pair_errors(*near, np.ones(4, bool))
    np.testing.assert_allclose(near.translation_deg, direction, atol=1e-2)


def test_a_pair_without_baseline_is_judged_by_its_rotation():
    """5.5 degrees are below 25 of the 30 thresholds; the pair beside it has 20.5 as well: 10."""
    errors = poses.PairErrors(np.float32([[5.5, 5.5]]), np.float32([[np.nan, 20.5]]))
    np.testing.assert_allclose(mean_average_accuracy(errors), 17.5 / 30, rtol=1e-6)


def test_noise_moves_the_psnr_by_its_logarithm():
    """-20 log10 of the standard deviation, for data of range 1."""
    image = np.asarray(uniform(0, 64, 64, 3))
    noisy = image + np.float32(0.05) * np.asarray(normal(1, *image.shape))
    # 12288 values: the mean square is within 1.3 %, three deviations are 0.17 dB.
    np.testing.assert_allclose(image_metrics.psnr(noisy, image), -20 * np.log10(0.05), atol=0.17)


def test_non_finite_predictions_cost_the_cap():
    """A NaN prediction is a failure, not a sample without value."""
    truth = np.ones((1, 2, 4, 4, 3), np.float32)
    truth[..., 0] = np.arange(4)
    broken = truth.copy()
    broken[0, 1, 0, 0] = np.nan
    found = jax.device_get(metrics.point_errors(broken, truth, np.ones((1, 2, 4, 4), bool)))
    assert found.per_view[0, 1] == metrics.ERROR_CAP and np.isfinite(found.nd[0])


def test_rubbish_under_the_mask_costs_nothing():
    """Not even NaN and infinity, in prediction or truth."""
    points, truth = np.asarray(normal(0, 2, 4, 4, 3)), np.asarray(normal(1, 2, 4, 4, 3))
    valid = np.asarray(uniform(2, 2, 4, 4)) < 0.7
    rubbish = np.float32([np.nan, np.inf, 9])
    given = [np.where(valid[..., None], x, rubbish) for x in (points, truth)]
    clean, soiled = (metrics.similarity_error(*x, valid) for x in ((points, truth), given))
    np.testing.assert_allclose(soiled, clean, rtol=1e-6)
    clean, soiled = (metrics.point_errors(*x, valid).nd for x in ((points, truth), given))
    np.testing.assert_allclose(soiled, clean, rtol=1e-6)


def test_pose_errors_match_golden():
    """Release and usual definitions of the angles and of the shares below thresholds."""
    golden = np.load(GOLDEN / "pose.npz")
    truth, found = (jnp.asarray(golden[k], jnp.float32) for k in ("c2w_gt", "c2w_pred"))
    ok = jnp.ones(truth.shape[:2], bool)
    np.testing.assert_array_equal(view_pairs(5), (golden["pair_i"], golden["pair_j"]))
    release, usual = (
        jax.device_get(errors(found, truth, ok)) for errors in (pair_errors_release, pair_errors)
    )
    # Both arccos are ill-conditioned at 1: float32 leaves hundredths of a degree.
    np.testing.assert_allclose(release.rotation_deg, golden["theta_R"], atol=1e-2)
    np.testing.assert_allclose(release.translation_deg, golden["theta_t"], atol=6e-2)
    np.testing.assert_allclose(usual.rotation_deg, golden["theta_R_std"], atol=1e-2)
    defined = ~np.isnan(usual.translation_deg)
    np.testing.assert_allclose(
        np.asarray(usual.translation_deg)[defined], golden["theta_t_std"][defined], atol=1e-2
    )
    assert (~defined).sum() == 1  # the two identical true cameras
    for errors, end in ((release, ""), (usual, "_std")):
        rows = slice(None) if end == "" else slice(0, 5)
        rra, rta = (np.asarray(share_below(angles)) for angles in jax.tree.leaves(errors))
        np.testing.assert_allclose(rra, golden["RRA15" + end], atol=1e-6)
        np.testing.assert_allclose(rta[rows], golden["RTA15" + end][rows], atol=1e-6)
        maa = np.asarray(mean_average_accuracy(errors))
        np.testing.assert_allclose(maa[rows], golden["mAA30" + end][rows], atol=1e-6)


def test_failed_poses_are_wrong():
    """A pose that is not ok makes all of its pairs wrong, even when it is NaN."""
    rotations = transforms.rotation_from_quat(normal(0, 1, 3, 4))
    poses = transforms.rigid(rotations, normal(1, 1, 3, 3))
    ok = np.array([[True, True, False]])
    broken = np.where(ok[..., None, None], poses, np.float32(np.nan))
    errors = pair_errors(broken, poses, ok)
    np.testing.assert_allclose(share_below(errors.rotation_deg), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(mean_average_accuracy(errors), 1 / 3, rtol=1e-6)
    assert np.isfinite(pair_errors_release(broken, poses, ok).rotation_deg).all()


def test_pose_errors_have_gradients_where_cameras_coincide():
    """Finite ones, and 0 for a pose that is not ok, even where it is NaN."""
    truth = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    truth[:, :3, 3] = normal(0, 4, 3)
    # Estimated cameras 0 and 1 coincide, and so do the true ones 2 and 3.
    truth[3] = truth[2]
    found = truth.copy()
    found[1], found[3], found[2, :3, 3] = truth[0], np.nan, truth[2, :3, 3] + 1
    ok = np.array([True, True, True, False])

    def total(poses):
        errors = pair_errors(poses, truth, ok)
        return jnp.nansum(errors.translation_deg) + jnp.nansum(errors.rotation_deg)

    gradient = np.asarray(jax.jit(jax.grad(total))(found))
    assert np.isfinite(gradient).all() and gradient[2].any() and not gradient[3].any()


def test_the_similarity_error_of_one_pixel_has_a_gradient():
    """One point fits exactly wherever it is: gradient 0."""
    points, truth = normal(0, 1, 4, 4, 3), normal(1, 1, 4, 4, 3)
    valid = np.arange(16).reshape(1, 4, 4) == 6
    gradient = jax.jit(jax.grad(metrics.similarity_error))(points, truth, valid)
    np.testing.assert_array_equal(gradient, 0)


def test_psnr_of_identical_images_has_gradient_zero():
    """It is infinite, and no direction is better than another."""
    image = uniform(0, 8, 8, 3)
    value, gradient = jax.jit(jax.value_and_grad(image_metrics.psnr))(image, image)
    assert value == np.inf and not np.any(gradient)


IMAGE_METRICS = [image_metrics.psnr, image_metrics.ssim, image_metrics.ssim_release]


@pytest.mark.parametrize("metric", IMAGE_METRICS)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_image_metrics_take_half_precision_as_float32(metric, dtype):
    """Of one image or both: the value is that of the rounded images."""
    image, truth = (np.asarray(uniform(seed, 12, 12, 3)).astype(dtype) for seed in range(2))
    full = [x.astype(np.float32) for x in (image, truth)]
    for found in (metric(image, truth), metric(full[0], truth)):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, metric(*full), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_image_metrics_refuse_whole_numbers(metric):
    """Differences of uint8 would wrap around; the error names the type."""
    image = jnp.zeros((12, 12, 3), jnp.uint8)
    with pytest.raises(TypeError, match="uint8"):
        metric(image, image)


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_image_metrics_refuse_images_of_two_shapes(metric):
    """A single picture is not spread over several; the error quotes both shapes."""
    image = np.zeros((2, 12, 12, 3), np.float32)
    with pytest.raises(ValueError, match=r"\(2, 12, 12, 3\) and \(1, 12, 12, 3\)"):
        metric(image, image[:1])


def test_ssim_release_of_constant_images_is_nan():
    """Their range is 0, which says nothing: neither numbers nor infinity, equal or not."""
    constants = np.float32([[0, 0], [0.3, 0.3], [1, 1], [0.1, 0.7], [0, 1], [1 / 3, 0.3]])
    image, truth = np.ones((12, 12, 3), np.float32) * constants.T[..., None, None, None]
    assert np.isnan(image_metrics.ssim_release(image, truth)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_similarity_error_takes_half_precision(dtype):
    """As float32: the error is that of the rounded points."""
    points = np.asarray(normal(0, 2, 4, 4, 3)).astype(dtype)
    given, valid = (points, 2 * points + 1), np.ones((2, 4, 4), bool)
    found = metrics.similarity_error(*given, valid)
    assert found.dtype == jnp.float32 and found < 0.02
    full = metrics.similarity_error(*(x.astype(np.float32) for x in given), valid)
    np.testing.assert_allclose(found, full, rtol=1e-4)


@pytest.mark.parametrize("index", range(3))
def test_image_metrics_match_golden(index):
    """PSNR and both SSIM definitions equal torchmetrics' numbers, identical images included."""
    golden = np.load(GOLDEN / "image_metrics.npz")
    image = np.moveaxis(golden[f"img_{index}"].clip(-1, 1), 1, -1) / 2 + 0.5
    truth = np.moveaxis(golden[f"gt_{index}"], 1, -1) / 2 + 0.5
    image, truth = jnp.asarray(image), jnp.asarray(truth)
    np.testing.assert_allclose(image_metrics.psnr(image, truth), golden[f"psnr_{index}"], rtol=1e-5)
    np.testing.assert_allclose(
        image_metrics.ssim(image, truth), golden[f"ssim_datarange1_{index}"], atol=2e-5
    )
    np.testing.assert_allclose(
        image_metrics.ssim_release(image, truth), golden[f"ssim_reference_{index}"], atol=2e-4
    )


def test_ssim_rejects_small_images():
    """An image smaller than the window is named in the error."""
    with pytest.raises(ValueError, match=r"\(4, 9, 3\)"):
        image_metrics.ssim(jnp.ones((4, 9, 3)), jnp.ones((4, 9, 3)))
