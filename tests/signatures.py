"""Public functions of float32 arrays, and the shapes of what they may be given: to be traced."""

from functools import partial

import jax
import jax.numpy as jnp

from data.rooms import sample_batch
from data.rooms.moving import moving_batch
from mvdust3r_jax.cameras import focals, from_pointmaps, pnp
from mvdust3r_jax.evaluation.estimate import Estimate, ground_truth
from mvdust3r_jax.evaluation.scores import novel_views
from mvdust3r_jax.geometry import align, camera, transforms, truth
from mvdust3r_jax.metrics import chamfer, images, lpips, pointmaps, poses
from mvdust3r_jax.pairwise import alignment_start, network
from mvdust3r_jax.pairwise.global_alignment import global_alignment
from mvdust3r_jax.training.objective import total_loss
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.types import Batch, Gaussians, Prediction


def floats(*shape):
    """An array that is given to functions which are traced only."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def bools(*shape):
    """The same of masks."""
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


def whole(*shape):
    """The same of indices."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def splats(*grid):
    """Points, confidence and Gaussians of degree 0."""
    gaussians = (floats(*grid, 3), floats(*grid), floats(*grid, 3), floats(*grid, 4))
    return Prediction(floats(*grid, 3), floats(*grid), Gaussians(*gaussians))


GRID = (1, 2, 8, 8)
MAPS, POSES = floats(*GRID, 3), floats(1, 2, 4, 4)
ROTATION, POINTS = floats(3, 3), floats(9, 3)
BATCH = Batch(MAPS, floats(*GRID), POSES, floats(1, 2, 3, 3))
FIRST, SECOND = alignment_start.scene_graph(3)
PAIRS = alignment_start.Pairs(whole(6), whole(6), floats(6, 2, 8, 8, 3), floats(6, 2, 8, 8))
ESTIMATE = Estimate(
    *(floats(1, 1, 8, 8, 3), floats(1, 1, 8, 8), splats(1, 1, 8, 8).gaussians),
    *(whole(1), floats(1), floats(1, 1, 4, 4), bools(1, 1)),
)
OBJECTIVE = ObjectiveConfig(num_targets=1, weights={"confidence": 1.0, "rgb": 1.0, "lpips": 1.0})
LPIPS = {
    "kernels": [floats(n, n, i, 4) for n, i in ((11, 3), (5, 4), (3, 4), (3, 4), (3, 4))],
    "biases": [floats(4)] * 5,
    "heads": [floats(4)] * 5,
}


def loss(prediction, batch, weights):
    """Of all terms."""
    return total_loss(OBJECTIVE, prediction, batch, jax.random.key(0), perceptual=weights)[0]


LARGE = (1, 2, 32, 32)
LARGE_BATCH = Batch(floats(*LARGE, 3), floats(*LARGE), POSES, floats(1, 2, 3, 3))
# Functions and what they are given: with products and gradients,
SMOOTH = {
    "invert_rigid": (transforms.invert_rigid, POSES),
    "transform_points": (transforms.transform_points, POSES, MAPS),
    "nearest_rotation": (transforms.nearest_rotation, ROTATION),
    "depth_to_world": (camera.depth_to_world, floats(*GRID), floats(1, 2, 3, 3), POSES),
    "similarity": (align.similarity, POINTS, POINTS, floats(9)),
    "robust_similarity": (align.robust_similarity, POINTS, POINTS, floats(9)),
    "reference_from_cameras": (partial(truth.reference_from_cameras, num_refs=2), POSES),
    "true_pointmaps": (partial(truth.true_pointmaps, num_refs=2), BATCH),
    "similarity_error": (pointmaps.similarity_error, MAPS, MAPS, bools(*GRID)),
    "pair_errors": (poses.pair_errors, POSES, POSES, bools(1, 2)),
    "pair_errors_release": (poses.pair_errors_release, POSES, POSES, bools(1, 2)),
    "ssim": (images.ssim, MAPS, MAPS),
    "ssim_release": (images.ssim_release, MAPS, MAPS),
    "lpips": (lpips.distance, LPIPS, floats(1, 32, 32, 3), floats(1, 32, 32, 3)),
    "refine": (
        *(partial(pnp.refine, steps=2), ROTATION, floats(3), POINTS, floats(9, 2), floats(9)),
        floats(),
    ),
    "total_loss": (loss, splats(1, 1, 1, 32, 32), LARGE_BATCH, LPIPS),
}
# with products, not to be differentiated,
OTHERS = {
    "p3p": (pnp.p3p, floats(3, 2), ROTATION),
    "poses": (from_pointmaps.poses_from_pointmaps, MAPS, floats(*GRID), floats(1)),
    "own_focals": (
        *(focals.own_focals, floats(2, 8, 8, 3), floats(2, 8, 8), floats(), floats(2, 4, 4)),
        floats(2, 2),
    ),
    "exact_pairs": (
        partial(network.exact_pairs, first=FIRST, second=SECOND),
        *(floats(3, 8, 8, 3), floats(3, 4, 4), bools(3, 8, 8)),
    ),
    "spread_over_tree": (partial(alignment_start.spread_over_tree, num_views=3), PAIRS),
    "start": (partial(alignment_start.spanning_tree_start, num_views=3), PAIRS),
    "global_alignment": (partial(global_alignment, num_views=3, steps=1), PAIRS),
    "ground_truth": (partial(ground_truth, num_inputs=1), BATCH),
    "novel_views": (
        partial(novel_views, sh_degree=0, max_scale=1.0, capacity=4096),
        ESTIMATE,
        BATCH,
    ),
    "rooms": (
        partial(sample_batch, num_inputs=2, num_targets=0, height=16, width=16),
        whole(1),
    ),
    "moving": (partial(moving_batch, num_inputs=2, height=16, width=16), whole(1)),
}
# and without products.
ELEMENTWISE = {
    "rotation_from_quat": (transforms.rotation_from_quat, floats(4)),
    "quat_from_rotation": (transforms.quat_from_rotation, ROTATION),
    "rotation_from_axis_angle": (transforms.rotation_from_axis_angle, floats(3)),
    "rotation_angle_deg": (transforms.rotation_angle_deg, ROTATION, ROTATION),
    "project": (camera.project, POINTS, ROTATION),
    "median_shift_scale": (align.median_shift_scale, POINTS, bools(9)),
    "align_pointmaps": (pointmaps.align_pointmaps, MAPS, MAPS, bools(*GRID)),
    "point_errors": (pointmaps.point_errors, MAPS, MAPS, bools(*GRID)),
    "accuracy": (pointmaps.accuracy, floats(2)),
    "share_below": (poses.share_below, floats(2, 3)),
    "mean_average_accuracy": (
        poses.mean_average_accuracy,
        poses.PairErrors(floats(2, 3), floats(2, 3)),
    ),
    "psnr": (images.psnr, MAPS, MAPS),
    "chamfer_distance": (chamfer.chamfer_distance, POINTS, bools(9), POINTS, bools(9)),
    "confident_focal": (from_pointmaps.confident_focal, MAPS, floats(*GRID)),
}
# What is given by name.
NAMED = {
    "exact_pairs": {"scale": floats(6)},
    "ground_truth": {"reference": whole(1)},
    "start": {"principal_px": floats(3, 2)},
}
