"""Gaussian splatting in pure JAX: exact, differentiable, on CPU, GPU and TPU.

May use: geometry, types. Doors: the names below; ``pointmaps`` for predicted Gaussians,
``gaussians`` for spherical harmonics.
"""

from mvdust3r_jax.splat.rasterize import RasterInfo as RasterInfo
from mvdust3r_jax.splat.rasterize import capacity_for as capacity_for
from mvdust3r_jax.splat.rasterize import default_capacity as default_capacity
from mvdust3r_jax.splat.rasterize import rasterize as rasterize
