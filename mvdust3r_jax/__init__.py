"""MV-DUSt3R+ in JAX/Flax: pointmaps, cameras and Gaussian splats from unposed photographs.

Names are imported when first used: the command line must be up before JAX is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvdust3r_jax.models.mvdust3r import VARIANTS, ModelConfig, MVDust3r
    from mvdust3r_jax.reconstruction.reconstruct import Model, Scene, load_model, reconstruct

__all__ = [
    "VARIANTS",
    "MVDust3r",
    "Model",
    "ModelConfig",
    "Scene",
    "load_model",
    "reconstruct",
]
_FROM_NETWORK = ("VARIANTS", "ModelConfig", "MVDust3r")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "models.mvdust3r" if name in _FROM_NETWORK else "reconstruction.reconstruct"
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # asked for only once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
