"""MV-DUSt3R+ in JAX/Flax: pointmaps, cameras and Gaussian splats from unposed photographs."""

from mvdust3r_jax.models.mvdust3r import VARIANTS, ModelConfig, MVDust3r
from mvdust3r_jax.reconstruct import Model, Scene, load_model, reconstruct

__all__ = [
    "VARIANTS",
    "MVDust3r",
    "Model",
    "ModelConfig",
    "Scene",
    "load_model",
    "reconstruct",
]
