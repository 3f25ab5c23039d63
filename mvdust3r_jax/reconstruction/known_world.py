"""A scene moved into the world of known camera poses: points, cameras and Gaussians together."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mvdust3r_jax.cameras.entries import CameraError
from mvdust3r_jax.geometry.transforms import quat_from_rotation, rotation_from_quat
from mvdust3r_jax.reconstruction.pose_doubt import doubt, mean_rotation
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.splat.gaussians import sh_basis
from mvdust3r_jax.types import Gaussians

# Camera centers closer together than this share of the scene's size give no scale; nor do known
# ones that differ by so little of their coordinates, which is how such numbers are rounded.
_MIN_BASELINE_SHARE, _ROUNDING_SHARE = 1e-6, 1e-9
# Of the scene's size, what a step between neighboring float32 numbers may be at most.
_MAX_STEP_SHARE = 1e-5


def align_to_poses(scene: Scene, world_from_cam: Float[np.ndarray, "V 4 4"]) -> Scene:
    """The scene moved, turned and scaled into the world of the known poses, which it then has.

    The rotation is the mean of all views' (chordal), which two views determine as well; the scale
    is the ratio of the distances between camera centers. Views without a found pose do not count.

    Raises:
      CameraError: fewer than two views have a pose, or their centers coincide.
    """
    known, found = np.asarray(world_from_cam, np.float64), scene.world_from_cam.astype(np.float64)
    use = np.flatnonzero(scene.pose_ok)
    if len(use) < 2:
        raise CameraError(f"aligning to known poses takes 2 estimated ones, there are {len(use)}")
    rotation = mean_rotation(known[use, :3, :3] @ found[use, :3, :3].swapaxes(1, 2))
    centers, targets = found[use, :3, 3], known[use, :3, 3]
    spread = [np.linalg.norm(c - c.mean(axis=0), axis=1).mean() for c in (centers, targets)]
    size = float(np.median(np.linalg.norm(scene.points[scene.masks], axis=-1)))
    rounding = _ROUNDING_SHARE * max(1.0, float(np.abs(targets).max()))
    if spread[0] <= _MIN_BASELINE_SHARE * size or spread[1] <= rounding:
        raise CameraError("the cameras stand in one place, which gives no scale to align")
    scale = spread[1] / spread[0]
    translation = targets.mean(axis=0) - scale * rotation @ centers.mean(axis=0)
    return dataclasses.replace(
        scene,
        points=_narrowed(scale * scene.points @ rotation.T + translation),
        gaussians=moved_gaussians(scene.gaussians, scale, rotation),
        world_from_cam=known,
        pose_ok=np.ones_like(scene.pose_ok),
        metric=True,
        world_is_reference=False,
        pose_doubt=doubt(found[use], known[use]),
    )


def _narrowed(points: np.ndarray) -> np.ndarray:
    """float32 where its steps are far below the scene's size, else (a survey's meters) float64."""
    finite = points[np.isfinite(points).all(axis=-1)]
    if not len(finite):
        return points.astype(np.float32)
    size = float(np.max(np.std(finite, axis=0)))
    step = float(np.spacing(np.float32(np.abs(finite).max())))
    return points if step > _MAX_STEP_SHARE * size else points.astype(np.float32)


def moved_gaussians(
    gaussians: Gaussians | None,
    scale: float | Float[np.ndarray, "V H W 1"],
    rotation: Float[np.ndarray, "3 3"],
) -> Gaussians | None:
    """Gaussians scaled and turned; their positions are the points."""
    if gaussians is None:
        return None
    turned = np.float32(rotation) @ np.asarray(rotation_from_quat(jnp.asarray(gaussians.rotations)))
    return Gaussians(
        colors=rotate_sh(gaussians.colors, rotation),
        opacities=gaussians.opacities,
        scales=np.asarray(gaussians.scales * np.float32(scale)),
        rotations=np.asarray(quat_from_rotation(jnp.asarray(turned))),
    )


def rotate_sh(
    coefficients: Float[np.ndarray, "*batch K3"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*batch K3"]:
    """SH coefficients (coefficient-major, then RGB) of the same colors after a rotation.

    Solved by least squares over random directions d: the new function at d is the old one at
    the direction before the rotation. Exact, because a rotation stays inside a degree.
    """
    count = coefficients.shape[-1] // 3
    if count == 1:
        return coefficients
    directions = np.random.default_rng(0).normal(size=(8 * count, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    new = _sh_matrix(directions, count)
    old = _sh_matrix(directions @ rotation.astype(np.float32), count)
    new_from_old = np.linalg.lstsq(new, old, rcond=None)[0]
    split = coefficients.reshape(*coefficients.shape[:-1], count, 3)
    turned = np.einsum("ij,...jc->...ic", new_from_old, split)
    return turned.reshape(coefficients.shape).astype(np.float32)


def _sh_matrix(directions: np.ndarray, count: int) -> np.ndarray:
    """[n, K]: the basis functions at each direction."""
    columns = sh_basis(tuple(jnp.asarray(directions.T)), round(count**0.5) - 1)
    return np.stack([np.broadcast_to(np.asarray(c), len(directions)) for c in columns], axis=-1)
