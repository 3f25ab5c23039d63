"""The job behind the drop page: `reconstruct`, with its stages told as a share of the way."""

from __future__ import annotations

from pathlib import Path

from mvdust3r_jax.reconstruct import Model, reconstruct
from mvdust3r_jax.scene import Scene
from mvdust3r_jax.viewer.uploads import Progress, Reconstruct

# Where each stage begins, of all the time that a first reconstruction takes on a CPU (rough).
STAGES = {
    "read": (0.02, "reading the photographs"),
    "compile": (0.05, "preparing the network for this many photographs"),
    "network": (0.40, "running the network"),
    "cameras": (0.90, "finding the cameras"),
}


def reconstructor(model: Model, **options) -> Reconstruct:
    """What a `Viewer` needs to turn dropped photographs into scenes.

    options: keyword arguments of `reconstruct`, but ``progress``.
    """

    def run(paths: list[Path], progress: Progress) -> Scene:
        def tell(stage: str) -> None:
            progress(*STAGES.get(stage, (0.5, stage)))

        return reconstruct(paths, model, progress=tell, **options)

    return run
