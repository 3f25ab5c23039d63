"""A box in the scene: what lies outside of it is neither shown nor downloaded.

It is moved and turned by handles in the scene and sized by numbers in the panel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Bool, Float

from mvdust3r_jax.export.posed_views import rotation_matrices

_COLOR = (255, 160, 0)
# The first box holds this share of the points along each axis, between two quantiles.
_FIRST_SHARE = 0.96


class CropBox:
    """Adds its controls to the panel; ``changed`` is called whenever the box is.

    ``used`` and ``size`` are the controls, ``middle`` is where the box is at first.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        points: Float[np.ndarray, "n 3"],
        changed: Callable[[], None],
    ) -> None:
        self._server, self._changed = server, changed
        edges = np.zeros((2, 3))
        if len(points):
            tail = (1 - _FIRST_SHARE) / 2
            edges = np.quantile(points[:: max(1, len(points) // 100_000)], [tail, 1 - tail], axis=0)
        self.middle, size = edges.mean(axis=0), np.maximum(edges[1] - edges[0], 1e-6)
        self._handles: viser.TransformControlsHandle | None = None
        with server.gui.add_folder("Crop", expand_by_default=False):
            self.used = server.gui.add_checkbox("Only inside a box", False)
            self.size = server.gui.add_vector3("Box size", size, step=size.max() / 200)
        self.used.on_update(lambda _: self._update())
        self.size.on_update(lambda _: self._update())

    def inside(self, points: Float[np.ndarray, "*batch 3"]) -> Bool[np.ndarray, "*batch"]:
        """Everything where no box is used."""
        if not self.used.value or self._handles is None:
            return np.ones(points.shape[:-1], bool)
        rotation = rotation_matrices(np.asarray(self._handles.wxyz, np.float64))
        with np.errstate(invalid="ignore"):
            own = (points - np.asarray(self._handles.position)) @ rotation
            return (np.abs(own) <= np.asarray(self.size.value) / 2).all(axis=-1)

    def move(self, position: Float[np.ndarray, "3"]) -> None:
        """Put the middle of the box somewhere."""
        if self._handles is not None:
            self._handles.position = position
            self._changed()

    def _update(self) -> None:
        if self.used.value and self._handles is None:
            scale = float(np.max(self.size.value)) / 3
            scene = self._server.scene
            self._handles = scene.add_transform_controls(
                "/crop", scale=scale, depth_test=False, position=self.middle
            )
            self._handles.on_update(lambda _: self._changed())
        if self._handles is not None:
            self._handles.visible = self.used.value
            self._server.scene.add_box("/crop/box", _COLOR, tuple(self.size.value), wireframe=True)
        self._changed()
