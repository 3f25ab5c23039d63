"""A program ahead of time: weights and one compiled (V, H, W, R) in a folder that just runs.

``program.bin`` is the `jax.export` form (StableHLO: portable, stable over versions), from uint8
photographs to points, confidences, Gaussians, focal length and poses. ``compiled`` is a compilation
cache for this machine and jax version: with it, loading neither traces nor compiles; elsewhere the
program is compiled once. Nothing in the folder is a pickle.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import Array, UInt8

from mvdust3r_jax.cameras import from_pointmaps
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.network import DEFAULT_REFS
from mvdust3r_jax.reconstruction.traced import forward
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.weights import files as weight_files

FILES = ("program.bin", "weights.safetensors", "serving.json", "compiled")
_PROGRAM, _WEIGHTS, _FACTS, _CACHE = FILES


class ServingError(ValueError):
    """A folder or an input that does not fit; the message says what was expected."""


@dataclasses.dataclass(frozen=True)
class Served:
    """A loaded program; call it with photographs ``uint8 [V, H, W, 3]`` of exactly its shape.

    The result has NumPy arrays: points [V, H, W, 3] in the frame of photograph 0, confidence
    [V, H, W], focal_px [], world_from_cam [V, 4, 4] (NaN where not found), and for networks with
    Gaussian heads colors, opacities, scales and rotations.
    """

    shape: tuple[int, int, int, int]
    variables: dict[str, Any]
    program: Any

    def __call__(self, pixels: UInt8[np.ndarray, "V H W 3"]) -> dict[str, np.ndarray]:
        """Run it; ServingError if the photographs have another shape or type."""
        pixels = np.asarray(pixels)
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise ServingError(
                f"uint8 photographs of shape {self.shape} are expected, got {pixels.dtype} "
                f"{pixels.shape}"
            )
        return jax.device_get(self.program(self.variables, pixels))


def photographs_to_scene(
    config: ModelConfig, num_refs: int, variables: dict, pixels: UInt8[Array, "V H W 3"]
) -> dict[str, Array]:
    """All that is served, as one jittable function."""
    pred = forward(config, num_refs, variables, pixels)
    # Where the middle of an uncropped photograph lies, as `reconstruct` takes it.
    num_views, height, width = pixels.shape[:3]
    middle = jnp.array([width - 1, height - 1]) / 2
    focal_px, found = from_pointmaps.cameras_from_pointmaps(
        pred.points[None],
        pred.confidence[None],
        reference=jnp.zeros(1, jnp.int32),
        principal_px=jnp.tile(middle, (1, num_views, 1)),
    )
    result = {
        "points": pred.points,
        "confidence": pred.confidence,
        "focal_px": focal_px[0],
        # The reference's camera frame is the world by definition.
        "world_from_cam": found.ref_from_cam[0].at[0].set(jnp.eye(4)),
    }
    return result | (vars(pred.gaussians) if pred.gaussians is not None else {})


def export_program(
    folder: str | os.PathLike,
    model: Model,
    num_views: int,
    num_refs: int = DEFAULT_REFS,
    size: tuple[int, int] | None = None,
) -> None:
    """Write the folder (replacing an earlier one) for ``num_views`` photographs of one size.

    Raises:
      ModuleNotFoundError: flatbuffers is not installed. ServingError: fewer than two views.
    """
    if num_views < 2:
        raise ServingError(f"at least 2 views are needed, got {num_views}")
    num_refs = min(num_refs, num_views) if model.config.cross_ref else 1
    shape = (num_views, *(size or model.image_size), 3)
    function = functools.partial(photographs_to_scene, model.config, num_refs)
    exported = jax_export.export(jax.jit(function))(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model.variables),
        jax.ShapeDtypeStruct(shape, jnp.uint8),
    )
    try:
        program = exported.serialize()
    except ImportError as error:
        message = "exporting programs needs flatbuffers: pip install flatbuffers"
        raise ModuleNotFoundError(message) from error
    with results_folder(folder) as place:
        (place / _PROGRAM).write_bytes(program)
        weight_files.save_weights(
            place / _WEIGHTS,
            model.variables,
            model.config,
            image_size=shape[1:3],
            views=model.views,
        )
        facts = {
            "views": num_views,
            "height": shape[1],
            "width": shape[2],
            "refs": num_refs,
            "platforms": list(exported.platforms),
            "jax": jax.__version__,
        }
        (place / _FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        (place / _CACHE).mkdir()
        load_program(place)


def load_program(folder: str | os.PathLike) -> Served:
    """What `export_program` wrote, ready to run; compiled only where it was not exported.

    Raises:
      FileNotFoundError; ServingError: no such folder's content, or of another kind of device.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / _FACTS).read_text())
        exported = jax_export.deserialize(bytearray((folder / _PROGRAM).read_bytes()))
        shape = (facts["views"], facts["height"], facts["width"], 3)
    except FileNotFoundError:
        raise
    # Whatever damaged content makes of the reader.
    except Exception as error:
        raise ServingError(f"{folder} holds no exported program: {error!r}") from error
    # 'cuda' or 'rocm', as in the program; ``default_backend`` calls both 'gpu'.
    platform = jax_export.default_export_platform()
    if platform not in exported.platforms:
        raise ServingError(
            f"the program was exported for {', '.join(exported.platforms)}, this is {platform}; "
            "export it here"
        )
    _, variables = weight_files.load_weights(folder / _WEIGHTS)
    variables = jax.device_put(variables)
    with _compilation_cache(folder / _CACHE):
        program = jax.jit(exported.call)
        compiled = program.lower(variables, jax.ShapeDtypeStruct(shape, jnp.uint8)).compile()
    return Served(shape, variables, compiled)


# The settings are those of the process.
_one_at_a_time = threading.Lock()


@contextmanager
def _compilation_cache(folder: Path) -> Iterator[None]:
    """Programs compiled meanwhile are looked for, and kept, in this folder.

    Without XLA's own caches beside it, whose path would be part of a program's key: a folder that
    is moved, as every exported one is to its final name, must still be found in.
    """
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
        "jax_persistent_cache_enable_xla_caches",
    )
    with _one_at_a_time:
        before = {name: getattr(jax.config, name) for name in names}
        try:
            for name, value in zip(names, (str(folder), 0.0, 0, "none"), strict=True):
                jax.config.update(name, value)
            compilation_cache.reset_cache()
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
