"""A method's answer, and the truth that it is compared with, both in the reference view's frame.

Pure functions of arrays, jitted by the caller. Lengths in meters, angles in degrees.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.cameras.from_pointmaps import cameras_from_pointmaps
from mvdust3r_jax.geometry.camera import unproject
from mvdust3r_jax.geometry.pointmaps import take_view
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.geometry.truth import known_depth
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.types import Batch, Gaussians, Prediction


@pytrees.dataclass
class Estimate:
    """A method's answer for ``B`` samples; points and poses are in the reference view's frame.

    reference: index of the reference view. gaussians: None for methods that have none.
    """

    points: Float[Array, "B V H W 3"]
    confidence: Float[Array, "B V H W"]
    gaussians: Gaussians | None
    reference: Int[Array, " B"]
    focal_px: Float[Array, " B"]
    ref_from_cam: Float[Array, "B V 4 4"]
    pose_ok: Bool[Array, "B V"]


@pytrees.dataclass
class Truth:
    """Ground truth in the frame of each sample's reference view; poses of render-only views too."""

    points: Float[Array, "B V H W 3"]
    valid: Bool[Array, "B V H W"]
    ref_from_cam: Float[Array, "B S 4 4"]


def first_view(batch: Batch) -> Int[Array, " B"]:
    """View 0 of every sample: the reference of methods that do not choose one."""
    return jnp.zeros(len(batch.images), jnp.int32)


@exact_products
def ground_truth(batch: Batch, num_inputs: int, reference: Int[Array, " B"]) -> Truth:
    """Pointmaps of the input views and all cameras, seen from the reference view."""
    ref_from_world = invert_rigid(take_view(batch.world_from_cam, reference))
    ref_from_cam = jnp.einsum("bij,bsjk->bsik", ref_from_world, batch.world_from_cam)
    valid = known_depth(batch)[:, :num_inputs]
    depth_m = jnp.where(valid, batch.depth_m[:, :num_inputs], 0.0)
    points = transform_points(
        ref_from_cam[:, :num_inputs], unproject(depth_m, batch.intrinsics[:, :num_inputs])
    )
    return Truth(points, valid, ref_from_cam)


def principal_points(batch: Batch, num_inputs: int) -> Float[Array, "B V 2"]:
    """Principal points (x, y) of the input views, which the crop of the data has decided."""
    return batch.intrinsics[:, :num_inputs, :2, 2]


def add_poses(prediction: Prediction, batch: Batch, reference: Int[Array, " B"]) -> Estimate:
    """Focal length from the reference view's pointmap, then the pose of every view.

    Of the batch's cameras only the principal points are used.
    """
    focal_px, found = cameras_from_pointmaps(
        prediction.points,
        prediction.confidence,
        reference=reference,
        principal_px=principal_points(batch, prediction.points.shape[1]),
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
