"""Measuring: two points of the scene, clicked with Shift held, and the distance between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

_COLOR = (255, 0, 160)
# Radians: points so close to the ray of a click count as hit; the nearest of them is taken.
_NEAR_RAY = 0.006
_LINE_PX = 4.0


def point_at(
    points: Float[np.ndarray, "n 3"],
    origin: Float[np.ndarray, "3"],
    direction: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "3"] | None:
    """The point that a ray (unit direction) hits first; None where it passes all of them by."""
    offset = np.asarray(points, np.float64) - origin
    along = offset @ direction
    aside = np.linalg.norm(offset - along[:, None] * direction, axis=1)
    hit = (along > 0) & (aside < _NEAR_RAY * along)
    return points[np.argmin(np.where(hit, along, np.inf))] if hit.any() else None


class Ruler:
    """Adds its text to the panel and draws marks; ``points`` gives those that are shown."""

    def __init__(
        self,
        server: viser.ViserServer,
        points: Callable[[], np.ndarray],
        mark_size: float,
        unit: str,
    ) -> None:
        self._server, self._points, self._mark_size, self._unit = server, points, mark_size, unit
        self._ends: list[np.ndarray] = []
        with server.gui.add_folder("Measure", expand_by_default=False):
            self.text = server.gui.add_markdown("Shift and click on two points.")

    def click(self, origin: np.ndarray, direction: np.ndarray) -> None:
        """A click's ray: the first end, the second, or the first of a new measurement."""
        found = point_at(self._points(), np.asarray(origin), np.asarray(direction))
        if found is None:
            self.text.content = "There is no point; Shift and click on one."
            return
        self._ends = [*self._ends, found] if len(self._ends) < 2 else [found]
        self._draw()

    @property
    def distance(self) -> float | None:
        """Between the two ends, once there are two."""
        return float(np.linalg.norm(np.subtract(*self._ends))) if len(self._ends) == 2 else None

    def _draw(self) -> None:
        scene = self._server.scene
        with self._server.atomic():
            for number, end in enumerate(self._ends * (2 if len(self._ends) == 1 else 1)):
                scene.add_icosphere(f"/ruler/{number}", self._mark_size, _COLOR, position=end)
            line = np.stack([self._ends[0], self._ends[-1]])[None].astype(np.float32)
            scene.add_line_segments(
                "/ruler/line", line, _COLOR, thickness=_LINE_PX, thickness_units="screen"
            )
            if self.distance is None:
                self.text.content = "Shift and click on the second point."
                scene.add_label("/ruler/label", "", position=self._ends[0])
            else:
                said = f"{self.distance:.4g} {self._unit}"
                self.text.content = f"**{said}**"
                scene.add_label("/ruler/label", said, position=line[0].mean(axis=0))
