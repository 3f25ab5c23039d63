"""Numbers of answers: invariances, the truth's own scores, splats of points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from data.box import box_views
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.baselines import fixed_splats, oracle_prediction
from mvdust3r_jax.evaluation.estimate import Estimate, add_poses, ground_truth
from mvdust3r_jax.evaluation.networks import best_path
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.geometry.truth import true_pointmaps
from mvdust3r_jax.types import Prediction
from tests.evaluation.boxes import SIZE, TARGETS, VIEWS, box_set


def test_a_known_similarity_changes_no_aligned_metric():
    """A prediction scaled, moved and (where axes do not matter) turned scores the same."""
    batch = jax.tree.map(jnp.asarray, box_set().load(["5"], VIEWS, 0))
    truth = ground_truth(batch, VIEWS, jnp.zeros(1, jnp.int32))
    wobbly = truth.points * (1 + 0.1 * jnp.sin(5 * truth.points))

    def score(factor, turn=(0.0, 0.0, 0.0), move=(0.0, 0.0, 0.0)):
        rotation = transforms.rotation_from_axis_angle(jnp.array(turn))
        moved = transforms.rigid(rotation, jnp.array(move))
        estimate = Estimate(
            points=transforms.transform_points(moved[None, None], factor * wobbly),
            confidence=jnp.ones(wobbly.shape[:-1]),
            gaussians=None,
            reference=jnp.zeros(1, jnp.int32),
            focal_px=jnp.full(1, 30.0),
            ref_from_cam=moved @ truth.ref_from_cam.at[..., :3, 3].multiply(factor),
            pose_ok=jnp.ones((1, VIEWS), bool),
        )
        return jax.jit(scores.score)(estimate, batch)

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


def test_best_path_is_chosen_by_the_truth():
    """Of two paths the one that equals the truth is taken, with its own reference view."""
    batch = jax.tree.map(jnp.asarray, box_set().load(["5", "6"], VIEWS, 0))
    exact = [ground_truth(batch, VIEWS, jnp.full(2, r)).points for r in range(2)]
    paths = jnp.stack([exact[0].at[0].multiply(jnp.array([1.0, 2.0, 1.0])), exact[1]], axis=1)
    paths = paths.at[1, 1, ..., 0].add(paths[1, 1, ..., 2] ** 2)
    prediction = Prediction(paths, jnp.ones(paths.shape[:-1]))
    chosen, reference = best_path(prediction, batch)
    np.testing.assert_array_equal(reference, [1, 0])
    np.testing.assert_allclose(chosen.points[0], exact[1][0])


def test_fixed_splats_show_true_points_as_the_oracle_does_nearly():
    """Points of the truth as splats of one size render the new view better than gray."""
    batch = jax.tree.map(
        jnp.asarray, box_views(np.random.default_rng(0), 1, VIEWS + TARGETS, SIZE, SIZE)
    )
    waves = jnp.sin(2 * true_pointmaps(batch, 1)[:, 0])
    batch = batch.replace(images=waves)
    true = oracle_prediction(batch, VIEWS)
    psnr = {}
    for name, prediction in (("oracle", true), ("fixed", fixed_splats(true, batch))):
        estimate = add_poses(prediction, batch, jnp.zeros(1, jnp.int32))
        draw = functools.partial(scores.novel_views, sh_degree=0, max_scale=1.0)
        images = jax.jit(draw)(estimate, batch)
        psnr[name] = float(scores.score_images_plain(images, waves[:, VIEWS:])["psnr_db"][0])
    gray = scores.score_images_plain(jnp.zeros_like(images), waves[:, VIEWS:])["psnr_db"][0]
    assert psnr["fixed"] > gray + 3
    assert psnr["fixed"] > psnr["oracle"] - 5
