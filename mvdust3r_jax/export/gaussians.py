"""The scene's Gaussians as flat arrays, activated: what renderers and the 3DGS file start from.

World frame, units of the scene's points. A standard deviation is at least 1e-4 of the points' mean
distance to the reference camera, as in training; the network's upper limit is in the scene already.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mvdust3r_jax.export.cloud import scene_points
from mvdust3r_jax.export.posed_views import (
    depth_maps,
    reference_distances,
    rotation_matrices,
    usable_pixels,
)
from mvdust3r_jax.splat.pointmaps import MIN_SCALE
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Of the surfels that stand in for scenes without Gaussian heads.
STAND_IN_OPACITY = 0.95
# A standard deviation of half a pixel's footprint closes the gaps between neighbors.
STAND_IN_PIXELS = 0.5
# Band-0 spherical harmonic: color = 0.5 + SH_BAND_0 * coefficient.
SH_BAND_0 = 0.28209479177387814


@dataclasses.dataclass(frozen=True)
class GaussianCloud:
    """``G`` Gaussians. means, scales: scene units. rotations: unit wxyz. opacities in (0, 1).

    sh: [G, K, 3] coefficients in gsplat's convention (color in [0, 1] = 0.5 + SH, cut at 0).
    """

    means: np.ndarray  # [G, 3]
    rotations: np.ndarray  # [G, 4]
    scales: np.ndarray  # [G, 3]
    opacities: np.ndarray  # [G]
    sh: np.ndarray  # [G, K, 3]

    @property
    def sh_degree(self) -> int:
        """0 for one coefficient, 1 for four, and so on."""
        return int(np.sqrt(self.sh.shape[1])) - 1

    @property
    def colors_01(self) -> np.ndarray:
        """[G, 3]: the view-independent color, in [0, 1]."""
        return np.clip(0.5 + SH_BAND_0 * self.sh[:, 0], 0, 1)

    @property
    def covariances(self) -> np.ndarray:
        """[G, 3, 3]: ``R diag(scale^2) R^T``."""
        factor = rotation_matrices(self.rotations) * self.scales[:, None, :]
        return factor @ np.swapaxes(factor, -1, -2)


def gaussian_cloud(scene: SceneArrays) -> GaussianCloud:
    """One Gaussian per masked pixel, centered on its point.

    Color: with one SH coefficient (degree 0) it is the photograph's own pixel, as in training;
    with more it is what the network gave. Scenes without Gaussian heads get round surfels as
    large as a pixel's footprint.
    """
    keep = usable_pixels(scene)
    means = scene_points(scene)[keep]
    pixel_sh = (np.asarray(scene.images_01, np.float32)[keep][:, None, :] - 0.5) / SH_BAND_0
    if scene.gaussians is None:
        scales = np.repeat(_footprint(scene)[keep][:, None], 3, axis=1)
        rotations = np.tile(np.array([1, 0, 0, 0], np.float32), (len(means), 1))
        opacities = np.full(len(means), STAND_IN_OPACITY, np.float32)
        return GaussianCloud(means, rotations, scales, opacities, pixel_sh)
    raw = scene.gaussians
    colors = np.asarray(raw.colors, np.float32)[keep]
    sh = pixel_sh if colors.shape[-1] == 3 else colors.reshape(len(means), -1, 3)
    return GaussianCloud(
        means,
        np.asarray(raw.rotations, np.float32)[keep],
        np.maximum(np.asarray(raw.scales, np.float32)[keep], MIN_SCALE * mean_distance(scene)),
        np.asarray(raw.opacities, np.float32)[keep],
        sh,
    )


def mean_distance(scene: SceneArrays) -> float:
    """Mean distance of all finite points to the reference camera, every pixel as in training."""
    distance = reference_distances(scene)
    finite = distance[np.isfinite(distance)]
    return float(max(finite.mean(), 1e-8)) if finite.size else 1e-8


def _footprint(scene: SceneArrays) -> np.ndarray:
    """[V, H, W]: standard deviation of a stand-in surfel, at least the lower training limit.

    A view without a pose has no depth of its own: the distance to the reference stands in.
    """
    depth = depth_maps(scene)
    usable = np.isfinite(depth) & (depth > 0)
    depth = np.where(usable, depth, reference_distances(scene))
    focal = np.asarray(scene.intrinsics, np.float64)[:, 0, 0]
    scale = STAND_IN_PIXELS * depth / focal[:, None, None]
    return np.maximum(scale, MIN_SCALE * mean_distance(scene)).astype(np.float32)
