"""Gaussian splatting in pure JAX."""

from mvdust3r_jax.splat.rasterize import rasterize as rasterize
