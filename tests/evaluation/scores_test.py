"""Numbers of answers: invariances, the truth's own scores, splats of points."""

import jax
import jax.numpy as jnp
import numpy as np

from data.box import box_views
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.baselines import fixed_splats, oracle_prediction
from mvdust3r_jax.evaluation.estimate import Estimate, Truth, add_poses, ground_truth
from mvdust3r_jax.evaluation.networks import best_path
from mvdust3r_jax.evaluation.scores import focal_numbers
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.geometry.truth import true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.types import Prediction
from tests.compiled import Compiled, compiled
from tests.evaluation.boxes import SIZE, TARGETS, VIEWS, box_set

transforms, scores = Compiled(transforms), Compiled(scores)
best_path, fixed_splats, oracle_prediction, add_poses, ground_truth, true_pointmaps = map(
    compiled,
    (best_path, fixed_splats, oracle_prediction, add_poses, ground_truth, true_pointmaps),
)
FIRST = jnp.asarray(np.zeros(1, np.int32))


def test_a_known_similarity_changes_no_aligned_metric():
    """A prediction scaled, moved and (where axes do not matter) turned scores the same."""
    batch = jax.device_put(box_set().load(["5"], VIEWS, 0))
    truth = jax.device_get(ground_truth(batch, VIEWS, FIRST))
    wobbly = truth.points * (1 + np.float32(0.1) * np.sin(5 * truth.points))

    def score(factor, turn=(0.0, 0.0, 0.0), move=(0.0, 0.0, 0.0)):
        rotation = transforms.rotation_from_axis_angle(np.float32(turn))
        moved = np.asarray(transforms.rigid(rotation, np.float32(move)))
        scaled = truth.ref_from_cam.copy()
        scaled[..., :3, 3] *= factor
        estimate = Estimate(
            points=transforms.transform_points(moved[None, None], np.float32(factor) * wobbly),
            confidence=np.ones(wobbly.shape[:-1], np.float32),
            gaussians=None,
            reference=FIRST,
            focal_px=np.full(1, 30, np.float32),
            ref_from_cam=moved @ scaled,
            pose_ok=np.ones((1, VIEWS), bool),
        )
        return jax.device_get(scores.score(estimate, batch))

    plain, moved = score(1.0), score(3.7, move=(0.4, -0.2, 0.3))
    turned = score(3.7, turn=(0.5, 0.2, -0.3), move=(0.4, -0.2, 0.3))
    assert plain["nd"] > 1e-3 and abs(turned["nd"] - plain["nd"]) > 1e-4
    # The release's angles are between poses of cameras to the world, which a turn changes.
    free = [n for n in plain if not n.startswith(("nd", "dac")) and "release" not in n]
    assert {"similarity_error_m", "rre_deg", "rte_deg", "maa30"} <= set(free)
    for name, value in plain.items():
        # Hundredths of a degree: an arccos near 1 in float32.
        close = dict(rtol=1e-3, atol=2e-2 if "deg" in name else 1e-3, err_msg=name)
        np.testing.assert_allclose(turned[name], value, **close) if name in free else None
        if "release" not in name or name.startswith(("nd", "dac")):
            np.testing.assert_allclose(moved[name], value, **close)


def test_a_focal_length_that_was_not_found_costs_the_cap():
    """It does not drop out of the mean, and counts no less than the worst that was found."""
    batch = jax.tree.map(jnp.asarray, box_views(np.random.default_rng(0), 5, 2, 8, 8))
    true_px = batch.intrinsics[:, 0, 0, 0]
    found = true_px * np.float32([1.5, np.nan, np.inf, -np.inf, 99])
    points, seen = jnp.zeros((5, 2, 8, 8, 3)), batch.depth_m > 0
    poses, view = batch.world_from_cam, jnp.zeros(5, jnp.int32)
    estimate = Estimate(points, points[..., 0], None, view, found, poses, seen[:, :, 0, 0])
    error = focal_numbers(estimate, batch, Truth(points, seen, poses))["focal_error"]
    np.testing.assert_allclose(error, [0.5, 10, 10, 10, 10], rtol=1e-5)
    unseen = seen.at[1, 0].set(False)  # nothing of its reference view is known
    error = focal_numbers(estimate, batch, Truth(points, unseen, poses))["focal_error"]
    np.testing.assert_allclose(error, [0.5, np.nan, 10, 10, 10], rtol=1e-5)


def test_one_point_that_is_not_finite_costs_its_view_the_cap():
    """The other views keep their errors, and the sample has the mean over the views."""
    batch = jax.device_put(box_set().load(["5"], VIEWS, 0))
    truth = jax.device_get(ground_truth(batch, VIEWS, FIRST))
    points = truth.points.copy()
    points[0, 1, 3, 4, 0] = np.nan
    errors = point_errors(points, truth.points, truth.valid)
    np.testing.assert_allclose(errors.per_view[0], [0, 10, 0, 0], atol=0.1)
    np.testing.assert_allclose(errors.nd, 10 / VIEWS, atol=0.1)


def test_best_path_is_chosen_by_the_truth():
    """Of two paths the one that equals the truth is taken, with its own reference view."""
    batch = jax.device_put(box_set().load(["5", "6"], VIEWS, 0))
    exact = [np.array(ground_truth(batch, VIEWS, np.full(2, r)).points) for r in range(2)]
    paths = np.stack(exact, axis=1)
    paths[0, 0] *= np.float32([1.0, 2.0, 1.0])
    paths[1, 1, ..., 0] += paths[1, 1, ..., 2] ** 2
    prediction = Prediction(paths, np.ones(paths.shape[:-1], np.float32))
    chosen, reference = best_path(prediction, batch)
    np.testing.assert_array_equal(reference, [1, 0])
    np.testing.assert_allclose(np.asarray(chosen.points)[0], exact[1][0])


def test_fixed_splats_are_as_wide_as_so_many_pixels():
    """A point at the scene's mean distance is seen that wide, in every view and scene."""
    batch = jax.tree.map(jnp.asarray, box_views(np.random.default_rng(0), 2, VIEWS, SIZE, SIZE))
    truth = oracle_prediction(batch, VIEWS)
    splats = fixed_splats(truth, batch, spread_px=1.5).gaussians
    distance = np.linalg.norm(np.asarray(truth.points), axis=-1).mean(axis=(1, 2, 3))
    seen_px = np.asarray(batch.intrinsics)[:, 0, 0, 0] * splats.scales[:, 0, 0, 0, 0] / distance
    np.testing.assert_allclose(seen_px, 1.5, rtol=1e-5)
    assert np.ptp(splats.scales, axis=(1, 2, 3, 4)).max() == 0


def test_fixed_splats_show_true_points_as_the_oracle_does_nearly():
    """Points of the truth as splats of one size render the new view better than gray."""
    batch = jax.tree.map(
        jnp.asarray, box_views(np.random.default_rng(0), 1, VIEWS + TARGETS, SIZE, SIZE)
    )
    waves = np.sin(2 * np.asarray(true_pointmaps(batch, 1))[:, 0])
    batch = batch.replace(images=jnp.asarray(waves))
    true = oracle_prediction(batch, VIEWS)
    psnr = {}
    for name, prediction in (("oracle", true), ("fixed", fixed_splats(true, batch, spread_px=0.6))):
        estimate = add_poses(prediction, batch, FIRST)
        images, overflow = scores.novel_views(
            estimate, batch, sh_degree=0, max_scale=1.0, capacity=1 << 18
        )
        assert not np.any(overflow)
        psnr[name] = np.asarray(scores.score_images_plain(images, waves[:, VIEWS:])["psnr_db"])[0]
    nothing = np.zeros_like(images)
    gray = np.asarray(scores.score_images_plain(nothing, waves[:, VIEWS:])["psnr_db"])[0]
    assert psnr["fixed"] > gray + 3
    assert psnr["fixed"] > psnr["oracle"] - 5
