"""Loss terms against the published implementation's numbers, and their behavior at the edges."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.geometry import camera, pointmaps, transforms, truth
from mvdust3r_jax.splat import pointmaps as splat_pointmaps
from mvdust3r_jax.training import losses
from mvdust3r_jax.types import Batch
from tests.compiled import Compiled, compiled, normal, uniform

losses, transforms = Compiled(losses), Compiled(transforms)
mean_distance, transform_points = compiled(pointmaps.mean_distance), transforms.transform_points
clip_scales, true_pointmaps = map(compiled, (splat_pointmaps.clip_scales, truth.true_pointmaps))

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
CASES = ["dense", "sparse", "empty_sample", "render_view"]


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as data:
        return dict(data)


def close(actual, expected, tolerance=1e-5):
    """Relative to the largest entry, as the golden data are meant."""
    scale = np.abs(expected).max() + 1e-12
    np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, atol=tolerance, rtol=0)


def in_reference(case):
    """Ground truth of all views in view 0's frame [B, 1, S, H, W, 3], inverted in float64."""
    ref_from_world = np.linalg.inv(case["camera_pose"][:, 0])
    points = transform_points(np.float32(ref_from_world)[:, None], case["gt_pts3d"][:, None])
    return np.asarray(points)


@pytest.mark.parametrize("name", CASES)
def test_confidence_loss_is_the_published_one(name):
    """Value per slot and total within 1e-5, gradients within 1e-4, exactly 0 under the mask."""
    case = load(f"pointmap_{name}")
    num_inputs = case["pred_pts3d"].shape[1]
    truth = in_reference(case)[:, :, :num_inputs]
    valid = case["valid_mask"][:, :num_inputs]

    def total(points, confidence):
        per_slot = losses.confidence_loss(points, confidence, truth, valid)
        return per_slot.sum(), per_slot

    arguments = case["pred_pts3d"][:, None], case["pred_conf"][:, None]
    both = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (value, per_slot), gradients = jax.device_get(both(*arguments))
    close(per_slot, case["train_conf_per_view"])
    close(value, case["train_conf_total"])
    close(gradients[0][:, 0], case["train_grad_pred_pts3d"], 1e-4)
    close(gradients[1][:, 0], case["train_grad_pred_conf"], 1e-4)
    assert not np.any(gradients[0][:, 0][~valid])
    close(
        losses.regression_loss(arguments[0], truth, valid),
        case["train_regr_per_view"],
    )


def test_several_paths_pool_slots_over_samples_and_paths():
    """With R references the loss is that of the published B*R batch with views 0 and r swapped."""
    case = load("multiref")
    refs, (batch, views) = int(case["n_ref"]), case["valid_mask"].shape[:2]
    order = case["view_order"].reshape(batch, refs, views)
    np.testing.assert_array_equal(order[0], losses.slot_order(refs, views))

    def by_view(x):
        x = x.reshape(batch, refs, *x.shape[1:])
        # The swap of two slots is its own inverse, so the same gather goes back to view order.
        return np.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 3)), 2)

    poses = np.float32(np.linalg.inv(case["camera_pose"][:, :refs]))
    truth = transform_points(poses, case["gt_pts3d"][:, None])
    per_slot = losses.confidence_loss(
        by_view(case["pred_pts3d"]),
        by_view(case["pred_conf"]),
        truth,
        case["valid_mask"],
    )
    close(per_slot, case["train_conf_per_view"])


@pytest.mark.parametrize("name", ["dense", "sparse", "render_view"])
def test_scales_are_normalized_as_published(name):
    """Norm factors, clipped scales and the clip loss with its gradient."""
    case = load(f"pointmap_{name}")
    num_inputs = case["pred_pts3d"].shape[1]
    valid = case["valid_mask"]
    factor = mean_distance(in_reference(case)[:, 0], valid)
    close(factor, case["gs_gt_norm_factor"])
    scales = case["pred_scale"]
    pred_factor = mean_distance(case["pred_pts3d"], valid[:, :num_inputs])
    close(clip_scales(scales, pred_factor), case["gs_scale_clipped"])
    both = jax.value_and_grad(lambda s: losses.scale_excess(s, pred_factor).mean())
    value, gradient = jax.jit(both)(scales)
    close(value, case["gs_scale_clip_loss"])
    close(gradient, case["gs_grad_pred_scale"], 1e-4)


def test_rgb_error_is_the_published_one():
    """Per sample mean of the RGB distance over valid pixels, 0 for a sample without any."""
    case = load("gs_rgb_l21")
    render, images, valid = (case[k] for k in ("render", "gt_img", "mask"))
    close(losses.rgb_error(render, images, valid), case["loss_per_sample"])
    gradient = jax.jit(jax.grad(lambda r: losses.rgb_error(r, images, valid).mean()))(render)
    close(gradient, case["grad_render"], 1e-4)


@pytest.mark.parametrize("content", ["origin", "coincident", "nan_under_mask", "all_invalid"])
def test_gradients_stay_finite_at_the_edges(content):
    """Points at the origin, on top of each other, NaN under the mask, nothing valid at all."""
    shape = (2, 1, 3, 4, 4)
    points, truth = np.asarray(normal(1, *shape, 3)), np.asarray(normal(2, *shape, 3))
    valid = np.asarray(uniform(3, 2, 3, 4, 4)) > 0.3
    if content == "origin":
        points = np.zeros_like(points)
    elif content == "coincident":
        points = truth
    elif content == "nan_under_mask":
        points = np.where(valid[:, None, ..., None], points, np.float32(np.nan))
        truth = np.where(valid[:, None, ..., None], truth, np.float32(np.inf))
    else:
        valid = np.zeros_like(valid)
    confidence = np.ones(shape, np.float32)

    def loss(points, confidence):
        return losses.confidence_loss(points, confidence, truth, valid).sum()

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(points, confidence)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_shares_of_devices_sum_to_the_whole():
    """Per-device shares and their gradients sum to the value of the whole batch."""
    shape = (8, 2, 3, 4, 5)
    points, truth = np.asarray(normal(0, *shape, 3)), np.asarray(normal(1, *shape, 3))
    confidence = np.asarray(uniform(2, *shape, low=1, high=2))
    valid = np.asarray(uniform(3, 8, 3, 4, 5)) > 0.5
    whole = losses.confidence_loss(points, confidence, truth, valid)
    split = [x[:, None] for x in (points, confidence, truth, valid)]

    def share(points, confidence, truth, valid):
        batch = Batch(None, valid.astype(jnp.float32), None, None)
        pool = losses.pool_of(batch, 3, 2, axis_name="data")
        return losses.confidence_loss(points, confidence, truth, valid, pool=pool)

    shares = jax.pmap(share, axis_name="data")(*split)
    np.testing.assert_allclose(np.sum(shares, axis=0), whole, rtol=1e-5)


def test_ground_truth_of_a_path_is_in_its_references_frame():
    """Points of view r on path r are that view's own camera-frame points."""
    rotations = transforms.rotation_from_axis_angle(normal(0, 1, 3, 3))
    depth_m = np.ones((1, 3, 4, 4), np.float32)
    depth_m[0, 0, 0, 0] = np.inf
    batch = Batch(
        images=np.zeros((1, 3, 4, 4, 3), np.float32),
        depth_m=depth_m,
        world_from_cam=transforms.rigid(rotations, normal(1, 1, 3, 3)),
        intrinsics=np.tile(np.float32([[4, 0, 2], [0, 4, 2], [0, 0, 1]]), (1, 3, 1, 1)),
    )
    found = np.asarray(true_pointmaps(batch, num_refs=2))
    own = np.asarray(compiled(camera.unproject)(batch.depth_m, batch.intrinsics))
    np.testing.assert_allclose(found[0, 1, 1], own[0, 1], atol=1e-5)
    world = transform_points(batch.world_from_cam, own)
    second = transforms.invert_rigid(np.asarray(batch.world_from_cam)[:, 1])
    in_second = np.asarray(transform_points(np.asarray(second)[:, None], world))
    np.testing.assert_allclose(found[0, 1, 2], in_second[0, 2], atol=1e-5)
    assert np.isfinite(found).all()
