"""Gaussian splatting in pure JAX: exact, differentiable, on CPU, GPU and TPU."""

from mvdust3r_jax.splat.rasterize import RasterInfo as RasterInfo
from mvdust3r_jax.splat.rasterize import capacity_for as capacity_for
from mvdust3r_jax.splat.rasterize import default_capacity as default_capacity
from mvdust3r_jax.splat.rasterize import rasterize as rasterize
