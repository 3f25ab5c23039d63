"""A network with its weights, loaded by path or by name."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax

from mvdust3r_jax.models.network import Network
from mvdust3r_jax.reconstruction.machine import default_dtype
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights.places import find_weights


@dataclasses.dataclass(frozen=True, eq=False)
class Model(Network):
    """A network with its weights on the device, and what a reconstruction says of it.

    image_size: (height, width) that it was trained at, the default of `reconstruct`.
    views: the most views that it was trained on, where its file says so.
    """

    image_size: tuple[int, int]
    name: str
    views: int | None = None


def load_model(
    path_or_name: str | os.PathLike, dtype: str | None = None, ignore_objects: bool = False
) -> Model:
    """Network and weights from a file or folder, or by name (`weights.places`, `weights.hub`).

    Args:
      path_or_name: what `weight_files.load_weights` reads, or e.g. "small", "MVDp_s2".
      dtype: of matrix products; by default bfloat16, on CPUs only where that is measured to be
        much faster (`machine.default_dtype`), else float32.
      ignore_objects: pass over objects of unknown classes in ``.pth`` files; nothing is run.

    Raises:
      FileNotFoundError: saying where was looked. weight_files.WeightsError: an unusable file, or
      one that cannot be fetched.
    """
    path = find_weights(path_or_name)
    config, variables = weight_files.load_weights(path, ignore_objects)
    dtype = dtype or default_dtype()
    config = dataclasses.replace(config, dtype=dtype)
    trained = weight_files.trained_on(path, ignore_objects)
    size = trained.image_size or (14 * 16, 14 * 16)
    return Model(config, _moved_to_device(variables), size, path.stem, trained.views)


def _moved_to_device(tree: dict[str, Any]) -> dict[str, Any]:
    """Replaces arrays one by one: two copies of all of them would be twice the memory."""
    for name, value in tree.items():
        tree[name] = _moved_to_device(value) if isinstance(value, dict) else jax.device_put(value)
    return tree
