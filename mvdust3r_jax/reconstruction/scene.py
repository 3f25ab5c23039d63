"""A reconstruction that saves itself: arrays, and any of the export formats."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from mvdust3r_jax import export
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, SceneArrays


@dataclasses.dataclass
class Scene(SceneArrays):
    """What `reconstruct` returns; its fields are those of `SceneArrays`."""

    def save(
        self, folder: str | os.PathLike, formats: Sequence[str] = ("ply", "glb")
    ) -> list[Path]:
        """Write `scene.npz` (from which `load` restores the scene) and the named export formats.

        The folder is created where missing; in one that exists only what this program wrote under
        the same names is replaced (`storage.results`). Returns the files, in the order of
        ``formats`` after `scene.npz`. Raises ValueError for an unknown format, naming those that
        there are; ResultsError where a foreign file has a name that is needed.
        """
        folder = Path(folder)
        names = [export.EXPORTERS[name].file_name for name in formats if name in export.EXPORTERS]
        with results_folder(folder, parts=[SCENE_FILE, *names]) as stage:
            self.save_arrays(stage / SCENE_FILE)
            export.write(self, stage, formats)
        return [folder / name for name in (SCENE_FILE, *names)]
