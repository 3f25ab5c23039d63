"""A reconstruction that saves itself: arrays, and any of the export formats."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from mvdust3r_jax import export
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, SceneArrays


@dataclasses.dataclass
class Scene(SceneArrays):
    """What `reconstruct` returns; its fields are those of `SceneArrays`."""

    def save(
        self, folder: str | os.PathLike, formats: Sequence[str] = ("ply", "glb")
    ) -> list[Path]:
        """Write `scene.npz` (from which `load` restores the scene) and the named export formats.

        The folder is created where missing. Returns the files, in the order of ``formats`` after
        `scene.npz`. Raises ValueError for an unknown format, naming those that there are.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [self.save_arrays(folder / SCENE_FILE)]
        return written + export.write(self, folder, formats)
