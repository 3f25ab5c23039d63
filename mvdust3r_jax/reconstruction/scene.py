"""A reconstruction that saves itself: arrays, and any of the export formats."""

from __future__ import annotations

import dataclasses
import filecmp
import os
from collections.abc import Sequence
from pathlib import Path

from mvdust3r_jax import export
from mvdust3r_jax.storage.results import parts_of, results_folder
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, SceneArrays


@dataclasses.dataclass(eq=False, repr=False)
class Scene(SceneArrays):
    """What `reconstruct` returns; its fields are those of `SceneArrays`."""

    def save(
        self, folder: str | os.PathLike, formats: Sequence[str] = ("ply", "glb")
    ) -> list[Path]:
        """Write `scene.npz` (from which `load` restores the scene) and the named export formats.

        The folder is created where missing; in one that exists only what this program wrote is
        replaced (`storage.results`): under the same names, and of another scene all. Returns the
        files, in the order of ``formats`` after `scene.npz`. Raises ValueError for an unknown
        format, naming those that there are; ResultsError where a foreign file has a name that is
        needed.
        """
        folder = Path(folder)
        names = [export.EXPORTERS[name].file_name for name in formats if name in export.EXPORTERS]
        replaced = {SCENE_FILE, *names}
        with results_folder(folder, parts=replaced) as stage:
            self.save_arrays(stage / SCENE_FILE)
            if not _is_same(folder / SCENE_FILE, stage / SCENE_FILE):
                replaced |= parts_of(folder)
            export.write(self, stage, formats)
        return [folder / name for name in (SCENE_FILE, *names)]


def _is_same(earlier: Path, new: Path) -> bool:
    return earlier.is_file() and filecmp.cmp(earlier, new, shallow=False)
