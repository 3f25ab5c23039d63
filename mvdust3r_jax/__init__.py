"""MV-DUSt3R+ in JAX/Flax: pointmaps, cameras and Gaussian splats from unposed photographs."""

from mvdust3r_jax.models.mvdust3r import VARIANTS, ModelConfig, MVDust3r

__all__ = ["VARIANTS", "MVDust3r", "ModelConfig"]
