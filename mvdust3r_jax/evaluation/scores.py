"""From a batch of posed RGB-D samples and a method's answer to numbers: the parts of ``eval.py``.

A method answers with an ``Estimate``; networks give a ``Prediction`` from which focal length and
poses are estimated first. Everything here is a pure function of arrays, jitted by the caller.
Lengths in metres, angles in degrees; every number is one per sample, NaN where it has no value.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.cameras.from_pointmaps import (
    PoseEstimate,
    centred_pixels,
    confident_mask,
    focal_from_pointmap,
    poses_from_pointmaps,
)
from mvdust3r_jax.geometry.camera import unproject
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics import images as image_metrics
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.metrics import pointmaps as metrics
from mvdust3r_jax.metrics.poses import (
    PairErrors,
    mean_average_accuracy,
    pair_errors,
    pair_errors_release,
    share_below,
)
from mvdust3r_jax.models.mvdust3r import ModelConfig, MVDust3r
from mvdust3r_jax.pairwise.alignment_start import Pairs
from mvdust3r_jax.pairwise.global_alignment import global_alignment
from mvdust3r_jax.pairwise.network import predict_pairs
from mvdust3r_jax.splat.pointmaps import clip_scales, render
from mvdust3r_jax.types import Batch, Gaussians, Prediction

# The constant baseline sees a wall at unit depth, through a lens of this focal length over width.
_CONSTANT_FOCAL = 1.0
# Gaussians of the ground-truth oracle: standard deviation over the distance between pixels' rays.
_ORACLE_SPREAD = 0.6


@struct.dataclass
class Estimate:
    """A method's answer for ``B`` samples; points and poses are in the reference view's frame.

    reference: index of the reference view. gaussians: None for methods that have none.
    """

    points: Float[Array, "B V H W 3"]
    confidence: Float[Array, "B V H W"]
    gaussians: Gaussians | None
    reference: Int[Array, "B"]
    focal_px: Float[Array, "B"]
    ref_from_cam: Float[Array, "B V 4 4"]
    pose_ok: Bool[Array, "B V"]


@struct.dataclass
class Truth:
    """Ground truth in the frame of each sample's reference view; poses of render-only views too."""

    points: Float[Array, "B V H W 3"]
    valid: Bool[Array, "B V H W"]
    ref_from_cam: Float[Array, "B S 4 4"]


def take(values: Float[Array, "B K *rest"], index: Int[Array, "B"]) -> Float[Array, "B *rest"]:
    """``values[b, index[b]]``."""
    return jax.vmap(lambda row, i: row[i])(values, index)


def ground_truth(batch: Batch, num_inputs: int, reference: Int[Array, "B"]) -> Truth:
    """Pointmaps of the input views and all cameras, seen from the reference view."""
    ref_from_world = invert_rigid(take(batch.world_from_cam, reference))
    ref_from_cam = jnp.einsum("bij,bsjk->bsik", ref_from_world, batch.world_from_cam)
    valid = known_depth(batch)[:, :num_inputs]
    depth_m = jnp.where(valid, batch.depth_m[:, :num_inputs], 0.0)
    points = transform_points(
        ref_from_cam[:, :num_inputs], unproject(depth_m, batch.intrinsics[:, :num_inputs])
    )
    return Truth(points, valid, ref_from_cam)


# ---------------------------------------------------------------- methods


def predict(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int, num_refs: int
) -> Prediction:
    """Path 0 of the network."""
    images = batch.images[:, :num_inputs]
    return MVDust3r(config).apply(variables, images, num_refs=min(num_refs, num_inputs))


def predict_all_paths(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int, num_refs: int
) -> Prediction:
    """All paths of the network, ``[B, R, V, ...]``."""
    images = batch.images[:, :num_inputs]
    num_refs = min(num_refs, num_inputs)
    return MVDust3r(config).apply(variables, images, num_refs=num_refs, all_paths=True)


def best_path(prediction: Prediction, batch: Batch) -> tuple[Prediction, Int[Array, "B"]]:
    """The path whose pointmaps come nearest to the truth (chosen knowing it), and its reference."""
    num_refs, num_inputs = prediction.points.shape[1:3]
    truth = true_pointmaps(batch, num_refs)[:, :, :num_inputs]
    valid = known_depth(batch)[:, None, :num_inputs]
    valid = jnp.broadcast_to(valid, truth.shape[:-1])
    nd = metrics.point_errors(prediction.points, truth, valid).nd
    best = jnp.argmin(jnp.nan_to_num(nd, nan=jnp.inf), axis=1)
    return jax.tree.map(lambda x: take(x, best), prediction), best


def constant_prediction(batch: Batch, num_inputs: int) -> Prediction:
    """The same flat wall in front of every view, whatever the images show."""
    height, width = batch.images.shape[2:4]
    pixels = centred_pixels(height, width, principal_points(batch, num_inputs))
    rays = pixels / (_CONSTANT_FOCAL * width)
    points = jnp.concatenate([rays, jnp.ones_like(rays[..., :1])], axis=-1)
    return Prediction(points, jnp.ones(points.shape[:-1]))


def pointmap_sums(batch: Batch, num_inputs: int) -> tuple[Array, Array]:
    """True pointmaps, summed over the known pixels of each sample; and the counts.

    Returns:
      ``[B, V, H, W, 3]`` metres in the reference view's frame and ``[B, V, H, W]``, to be summed.
    """
    truth = ground_truth(batch, num_inputs, jnp.zeros(batch.images.shape[0], jnp.int32))
    return jnp.where(truth.valid[..., None], truth.points, 0.0), truth.valid.astype(jnp.float32)


def mean_pointmaps(points_sum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean pointmap of the reference view, and one of all other views: ``[V, H, W, 3]``.

    Which source view comes first means nothing, so they share theirs.
    """
    roles = [slice(0, 1), *[slice(1, None)] * (len(count) - 1)]
    sums = np.stack([points_sum[role].sum(axis=0) for role in roles])
    counts = np.stack([count[role].sum(axis=0) for role in roles])
    return (sums / np.maximum(counts, 1)[..., None]).astype(np.float32)


def mean_prediction(mean: Float[Array, "V H W 3"], batch: Batch, num_inputs: int) -> Prediction:
    """The training set's mean pointmaps, whatever the images show."""
    points = jnp.broadcast_to(mean, (batch.images.shape[0], *mean.shape))
    return Prediction(points[:, :num_inputs], jnp.ones(points.shape[:-1])[:, :num_inputs])


def _round_splats(
    scales: Float[Array, "B V H W 3"], opacities: Float[Array, "B V H W"]
) -> Gaussians:
    """Gaussians that are not turned and have the colours of their pixels (SH degree 0)."""
    no_turn = jnp.array([1.0, 0, 0, 0]).reshape(1, 1, 1, 1, 4)
    rotations = jnp.broadcast_to(no_turn, (*opacities.shape, 4))
    return Gaussians(jnp.zeros_like(scales), opacities, scales, rotations)


def oracle_prediction(batch: Batch, num_inputs: int) -> Prediction:
    """Ground truth as if a network had predicted it; confidence 0 where the depth is unknown.

    Each pixel is an opaque round Gaussian about as large as the pixel's footprint.
    """
    reference = jnp.zeros(batch.images.shape[0], jnp.int32)
    truth = ground_truth(batch, num_inputs, reference)
    opacities = truth.valid.astype(jnp.float32)
    spread = batch.depth_m[:, :num_inputs] / batch.intrinsics[:, :num_inputs, 0, 0][..., None, None]
    scales = jnp.broadcast_to(_ORACLE_SPREAD * spread[..., None], truth.points.shape)
    gaussians = _round_splats(scales, 0.99 * opacities)
    return Prediction(truth.points, opacities, gaussians)


def fixed_splats(prediction: Prediction, batch: Batch) -> Prediction:
    """The predicted points, each an opaque round Gaussian; all are of one size.

    That of a pixel at the scene's mean distance: what points alone can show of a new view.
    """
    num_inputs = prediction.points.shape[1]
    valid = known_depth(batch)[:, :num_inputs]
    distance = mean_distance(prediction.points, valid)
    spread = _ORACLE_SPREAD * distance / batch.intrinsics[:, 0, 0, 0]
    scales = jnp.broadcast_to(spread[:, None, None, None, None], prediction.points.shape)
    gaussians = _round_splats(scales, jnp.full(prediction.confidence.shape, 0.99))
    return prediction.replace(gaussians=gaussians)


def principal_points(batch: Batch, num_inputs: int) -> Float[Array, "B V 2"]:
    """Principal points (x, y) of the input views, which the crop of the data has decided."""
    return batch.intrinsics[:, :num_inputs, :2, 2]


def add_poses(prediction: Prediction, batch: Batch, reference: Int[Array, "B"]) -> Estimate:
    """Focal length from the reference view's pointmap, then the pose of every view.

    Of the batch's cameras only the principal points are used.
    """
    principal_px = principal_points(batch, prediction.points.shape[1])
    confidence = take(prediction.confidence, reference)
    mask = confident_mask(confidence) & (confidence > 0)
    focal_px = focal_from_pointmap(
        take(prediction.points, reference), mask, principal_px=take(principal_px, reference)
    )
    found: PoseEstimate = poses_from_pointmaps(
        prediction.points, prediction.confidence, focal_px, principal_px=principal_px
    )
    return Estimate(
        points=prediction.points,
        confidence=prediction.confidence,
        gaussians=prediction.gaussians,
        reference=reference,
        focal_px=focal_px,
        ref_from_cam=found.ref_from_cam,
        pose_ok=found.ok,
    )


def predict_scene_pairs(
    variables: dict,
    batch: Batch,
    *,
    config: ModelConfig,
    num_inputs: int,
    graph: tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]],
    pairs_at_once: int,
) -> Pairs:
    """The two-view network on all pairs of the scene graph; a batch axis before the pairs."""

    def one(images):
        return predict_pairs(variables, images, *graph, config=config, pairs_at_once=pairs_at_once)

    return jax.lax.map(one, batch.images[:, :num_inputs])


def align_scene_pairs(pairs: Pairs, batch: Batch, *, num_inputs: int, steps: int) -> Estimate:
    """Points, focal length of view 0 and poses by global alignment.

    Of the batch's cameras only the principal points are used.
    """

    def one(scene):
        pairs, principal_px = scene
        return global_alignment(pairs, num_inputs, steps=steps, principal_px=principal_px)

    aligned = jax.lax.map(one, (pairs, principal_points(batch, num_inputs)))
    return Estimate(
        points=aligned.points,
        confidence=aligned.confidence,
        gaussians=None,
        reference=jnp.zeros(len(aligned.points), jnp.int32),
        focal_px=aligned.focal_px[:, 0],
        ref_from_cam=aligned.ref_from_cam,
        pose_ok=jnp.isfinite(aligned.ref_from_cam).all(axis=(-2, -1)),
    )


# ---------------------------------------------------------------- numbers


def _pose_numbers(errors: PairErrors, suffix: str) -> dict[str, Float[Array, "B"]]:
    rotation, translation = errors.rotation_deg, errors.translation_deg
    return {
        f"rre_deg{suffix}": rotation.mean(axis=-1),
        f"rte_deg{suffix}": jnp.nanmean(translation, axis=-1),
        f"rra15{suffix}": share_below(rotation),
        f"rta15{suffix}": share_below(translation),
        f"maa30{suffix}": mean_average_accuracy(errors),
    }


def score(estimate: Estimate, batch: Batch) -> dict[str, Float[Array, "B"]]:
    """Every number about points, focal length and poses except the chamfer distance."""
    num_inputs = estimate.points.shape[1]
    truth = ground_truth(batch, num_inputs, estimate.reference)
    points = metrics.point_errors(estimate.points, truth.points, truth.valid)
    dac, dac_release = metrics.accuracy(points.nd), metrics.accuracy(points.nd_release)
    numbers = {
        "nd": points.nd,
        "nd_release": points.nd_release,
        "similarity_error_m": metrics.similarity_error(estimate.points, truth.points, truth.valid),
    }
    for i, threshold_m in enumerate(metrics.ACCURACY_THRESHOLDS_M):
        numbers[f"dac{threshold_m}"] = dac[:, i]
        numbers[f"dac{threshold_m}_release"] = dac_release[:, i]
    true_focal = take(batch.intrinsics, estimate.reference)[:, 0, 0]
    numbers["focal_error"] = jnp.abs(estimate.focal_px / true_focal - 1)
    numbers["pose_ok_share"] = estimate.pose_ok.mean(axis=-1)
    poses = estimate.ref_from_cam, truth.ref_from_cam[:, :num_inputs], estimate.pose_ok
    numbers |= _pose_numbers(pair_errors(*poses), "")
    return numbers | _pose_numbers(pair_errors_release(*poses), "_release")


def aligned_clouds(estimate: Estimate, batch: Batch) -> tuple[Array, Array, Array]:
    """Aligned prediction, truth ``[B, n, 3]`` and mask ``[B, n]``, for the chamfer distance."""
    truth = ground_truth(batch, estimate.points.shape[1], estimate.reference)
    clouds = metrics.align_pointmaps(estimate.points, truth.points, truth.valid)
    size = len(truth.valid)
    return (*(x.reshape(size, -1, 3) for x in clouds), truth.valid.reshape(size, -1))


def score_and_clouds(estimate: Estimate, batch: Batch):
    """Both as one program, in which the alignment is computed once."""
    return score(estimate, batch), aligned_clouds(estimate, batch)


def novel_views(
    estimate: Estimate, batch: Batch, *, sh_degree: int, max_scale: float
) -> Float[Array, "B T H W 3"]:
    """The estimate's Gaussians seen by the true render-only cameras, in [-1, 1], as in training.

    Prediction and cameras are each divided by their own measure of the scene (`render_loss`).
    """
    num_inputs = estimate.points.shape[1]
    truth = ground_truth(batch, num_inputs, estimate.reference)
    valid = known_depth(batch)
    everything = ground_truth(batch, batch.images.shape[1], estimate.reference)
    factor = mean_distance(estimate.points, truth.valid)
    true_factor = mean_distance(everything.points, valid)
    cameras = truth.ref_from_cam[:, num_inputs:]
    prediction = Prediction(estimate.points, estimate.confidence, estimate.gaussians)
    images, _ = render(
        estimate.points / factor[:, None, None, None, None],
        prediction,
        clip_scales(estimate.gaussians.scales, factor, max_scale),
        batch.images[:, :num_inputs],
        cameras.at[..., :3, 3].divide(true_factor[:, None, None]),
        batch.intrinsics[:, num_inputs:],
        sh_degree=sh_degree,
    )
    return images


def score_images_plain(
    images: Float[Array, "B T H W 3"], truth: Float[Array, "B T H W 3"]
) -> dict[str, Float[Array, "B"]]:
    """PSNR and both SSIMs of renders (clipped) and truth in [-1, 1]; means over the views."""
    image_01, truth_01 = jnp.clip(images, -1.0, 1.0) / 2 + 0.5, truth / 2 + 0.5
    return {
        "psnr_db": image_metrics.psnr(image_01, truth_01).mean(axis=1),
        "ssim": image_metrics.ssim(image_01, truth_01).mean(axis=1),
        "ssim_release": image_metrics.ssim_release(image_01, truth_01).mean(axis=1),
    }


def score_images(
    perceptual: dict[str, Any],
    images: Float[Array, "B T H W 3"],
    truth: Float[Array, "B T H W 3"],
) -> dict[str, Float[Array, "B"]]:
    """The same with LPIPS (``perceptual``: its weights); images smaller than it takes lack it."""
    numbers = score_images_plain(images, truth)
    if min(images.shape[2:4]) >= lpips.MIN_SIDE:
        flat = (x.reshape(-1, *x.shape[2:]) for x in (jnp.clip(images, -1.0, 1.0), truth))
        distance = lpips.distance(perceptual, *flat)
        numbers["lpips"] = distance.reshape(images.shape[:2]).mean(axis=1)
    return numbers
