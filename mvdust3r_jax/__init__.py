"""MV-DUSt3R+ in JAX/Flax: pointmaps, cameras and Gaussian splats from unposed photographs.

Names are imported when first used: the command line must be up before JAX is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvdust3r_jax.models.config import VARIANTS, ModelConfig
    from mvdust3r_jax.models.mvdust3r import MVDust3r
    from mvdust3r_jax.reconstruction.model import Model, load_model
    from mvdust3r_jax.reconstruction.reconstruct import reconstruct
    from mvdust3r_jax.reconstruction.refine import refine
    from mvdust3r_jax.reconstruction.scene import Scene

__version__ = "0.1.0"
# Public name -> the module that has it.
_HOMES = {
    "VARIANTS": "models.config",
    "ModelConfig": "models.config",
    "MVDust3r": "models.mvdust3r",
    "Model": "reconstruction.model",
    "Scene": "reconstruction.scene",
    "load_model": "reconstruction.model",
    "reconstruct": "reconstruction.reconstruct",
    "refine": "reconstruction.refine",
}
__all__ = [
    "VARIANTS",
    "MVDust3r",
    "Model",
    "ModelConfig",
    "Scene",
    "load_model",
    "reconstruct",
    "refine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # asked for only once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
