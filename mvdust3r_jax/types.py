"""Arrays that travel between modules, and the conventions that every file keeps.

Letters: ``B`` batch, ``R`` reference views (paths), ``V`` input views, ``T`` render-only (target)
views, ``S = V + T`` all views of a sample, ``H W`` pixels, ``N`` tokens per view, ``D`` width,
``G`` Gaussians, ``K`` SH coefficients, ``C`` cameras. Views, paths and samples are axes.

Cameras: OpenCV axes (x right, y down, z forward). A transform is named ``a_from_b`` and maps
homogeneous column vectors of frame b to frame a (``world_from_cam`` is camera-to-world).
Quaternions are ``wxyz``. Units stand in names: ``depth_m``, ``focal_px``, ``angle_deg``.

Pixels: the center of the first pixel has the coordinate (0, 0), as in DUSt3R's data. The
rasterizer follows gsplat, where that center is (0.5, 0.5), and so do COLMAP and nerfstudio:
`geometry.pixels` has the way between, ``geometry.camera.half_pixel_shift`` that for intrinsics.

Images are channel-last. The network takes [-1, 1]; metrics and files take [0, 1], and then the
name says ``_01``; `images_01_from` and `images_from_01` are the way between. Pixels of files are
uint8: `images_from_pixels`, `pixels_from_images`. Arrays are float32 at every public boundary, but
for cameras of files, which are float64 on the host.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float, UInt8

from mvdust3r_jax import pytrees

# Where a function takes NumPy's arrays as well as JAX's.
AnyArray = Array | np.ndarray


@pytrees.dataclass
class Gaussians:
    """One 3-D Gaussian per pixel, centered on that pixel's predicted point (not stored here).

    colors: SH coefficients, coefficient-major then RGB. opacities: in (0, 1). scales: standard
    deviations in the units of the points, raw (may be negative; clip before rendering).
    rotations: unit quaternions wxyz in the frame of the points.
    """

    colors: Float[Array, "*batch V H W K3"]
    opacities: Float[Array, "*batch V H W"]
    scales: Float[Array, "*batch V H W 3"]
    rotations: Float[Array, "*batch V H W 4"]


@pytrees.dataclass
class Prediction:
    """What one forward pass returns; views in input order.

    points: pointmaps in the camera frame of the path's reference view, arbitrary scale.
    confidence: at least 1. gaussians: None for variants without Gaussian heads.
    ``batch`` is ``B`` for path 0 alone and ``B R`` with ``all_paths=True``.
    """

    points: Float[Array, "*batch V H W 3"]
    confidence: Float[Array, "*batch V H W"]
    gaussians: Gaussians | None = None


@pytrees.dataclass
class Batch:
    """Posed RGB-D samples: the ``V`` input views first, then ``T`` render-only views.

    images: in [-1, 1]. depth_m: meters along z, 0 where unknown. world_from_cam: camera-to-world.
    intrinsics: pixels, the first pixel's center at (0, 0). View 0 is the reference of path 0.
    """

    images: Float[Array, "B S H W 3"]
    depth_m: Float[Array, "B S H W"]
    world_from_cam: Float[Array, "B S 4 4"]
    intrinsics: Float[Array, "B S 3 3"]


def images_01_from(images: Float[AnyArray, "*any"]) -> Float[AnyArray, "*any"]:
    """[-1, 1] to [0, 1], of NumPy's or JAX's arrays; nothing is clipped."""
    return images / 2 + 0.5


def images_from_01(images_01: Float[AnyArray, "*any"]) -> Float[AnyArray, "*any"]:
    """[0, 1] to [-1, 1]: the inverse of `images_01_from`."""
    return 2 * images_01 - 1


def images_from_pixels(pixels: UInt8[AnyArray, "*any"]) -> Float[AnyArray, "*any"]:
    """0..255 to [-1, 1], as float32."""
    return pixels.astype(np.float32) / 127.5 - 1


def pixels_from_images(images: Float[AnyArray, "*any"]) -> UInt8[np.ndarray, "*any"]:
    """[-1, 1] to the nearest of 0..255: the inverse of `images_from_pixels`."""
    return np.rint((images + 1) * 127.5).astype(np.uint8)
