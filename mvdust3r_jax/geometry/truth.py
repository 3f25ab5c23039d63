"""What a posed RGB-D batch says: known depths, and cameras and pointmaps in each path's frame."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax.geometry.camera import unproject
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.types import Batch


def known_depth(batch: Batch) -> Bool[Array, "B S H W"]:
    """Pixels whose depth is positive and finite."""
    return (batch.depth_m > 0) & jnp.isfinite(batch.depth_m)


@exact_products
def reference_from_cameras(
    world_from_cam: Float[Array, "B S 4 4"], num_refs: int
) -> Float[Array, "B R S 4 4"]:
    """Every camera's pose in the frame of each of the first R views."""
    ref_from_world = invert_rigid(world_from_cam[:, :num_refs])
    return jnp.einsum("brij,bsjk->brsik", ref_from_world, world_from_cam)


def true_pointmaps(batch: Batch, num_refs: int) -> Float[Array, "B R S H W 3"]:
    """Ground truth of every path: each view's points in the frame of view r, meters.

    Pixels without known depth hold the origin of their camera.
    """
    depth_m = jnp.where(known_depth(batch), batch.depth_m, 0.0)
    points_cam = unproject(depth_m, batch.intrinsics)
    ref_from_cam = reference_from_cameras(batch.world_from_cam, num_refs)
    return transform_points(ref_from_cam, points_cam[:, None])
