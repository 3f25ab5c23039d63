"""What stands for the surfaces of a scene: points, Gaussians or a mesh, and how much of it.

Points are sorted by falling confidence, so that a threshold is a prefix of the arrays.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from contextlib import AbstractContextManager

import numpy as np
import viser

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.cloud import cloud
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.export.mesh import mesh_glb
from mvdust3r_jax.export.point_filter import within_budget
from mvdust3r_jax.export.posed_views import usable_pixels
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.crop_box import CropBox

# More points than this make a browser without a graphics card slow to turn.
MAX_POINTS = 600_000
# Share of the points hidden at first.
HIDDEN_PERCENT = 10


class PointsPanel:
    """Adds its controls to the panel and sends what they ask for.

    ``points`` is the viser node; ``confidence``, ``point_size``, ``splats``, ``mesh`` and ``crop``
    the controls. They call back in viser's threads, which ``lock`` keeps apart.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        lock: AbstractContextManager,
        scene: SceneArrays,
        world_scene: SceneArrays,
    ) -> None:
        """scene: what graphics show, in float32. world_scene: the same in its own world."""
        self.server, self._lock = server, lock
        self.scene, self._world_scene = scene, world_scene
        self.splat_node = self.mesh_node = None
        self._closed = False
        self._add_controls()
        self.crop = CropBox(server, scene.points[usable_pixels(scene)], self.draw)
        self.draw()

    def close(self) -> None:
        """Another scene is shown: what its controls still call for is not sent."""
        self._closed = True

    def _add_controls(self) -> None:
        gui = self.server.gui
        distance = frusta.frustum_depth(self.scene) / frusta.SIZE_SHARE
        # As wide as a pixel is at the scene's median distance: a surface seen from there is closed.
        self.unit_size = distance / float(np.median(self.scene.intrinsics[:, 0, 0]))
        with gui.add_folder("Points"):
            self.confidence = gui.add_slider(
                "Hide least sure %", min=0, max=99, step=1, initial_value=HIDDEN_PERCENT
            )
            self.point_size = gui.add_slider(
                "Point size", min=0.2, max=5.0, step=0.1, initial_value=1.0
            )
            self.splats = gui.add_checkbox("Gaussians", False)
            can_fuse = importlib.util.find_spec("skimage") is not None
            hint = None if can_fuse else "needs pip install 'mvdust3r-jax[mesh]'"
            self.mesh = gui.add_checkbox("Surface", False, disabled=not can_fuse, hint=hint)
            self.counter = gui.add_markdown("")
        self.confidence.on_update(lambda _: self.draw())
        self.point_size.on_update(lambda _: self._resize())
        self.splats.on_update(lambda _: self.draw())
        self.mesh.on_update(lambda _: self.draw())

    def _sort(self) -> None:
        inside = usable_pixels(self.scene) & self.crop.inside(self.scene.points)
        keep = within_budget(inside, MAX_POINTS)
        self.kept = dataclasses.replace(self.scene, masks=keep)
        points, colors, confidence = cloud(self.kept)
        self.order = np.argsort(-confidence, kind="stable")
        self.sorted_points, self.sorted_colors = points[self.order], colors[self.order]

    @property
    def shown(self) -> int:
        """How many points are above the slider's threshold; one at least, if there are any."""
        total = len(self.sorted_points)
        return min(max(round(total * (1 - self.confidence.value / 100)), 1), total)

    def shown_points(self) -> np.ndarray:
        """[n, 3] of those, in the frame of the graphics."""
        return self.sorted_points[: self.shown]

    def shown_scene(self) -> tuple[SceneArrays, np.ndarray]:
        """The scene in its own world, and the mask of what is shown of it, beyond any budget."""
        mask = usable_pixels(self.scene) & self.crop.inside(self.scene.points)
        if mask.any():
            least = np.quantile(self.scene.confidence[mask], self.confidence.value / 100)
            mask &= self.scene.confidence >= least
        return self._world_scene, mask

    def draw(self) -> None:
        """Send the shown prefix; a node of the same name replaces the old one."""
        with self._lock, self.server.atomic():
            if self._closed:
                return
            self._sort()
            self.points = self.server.scene.add_point_cloud(
                "/points",
                self.sorted_points[: self.shown],
                self.sorted_colors[: self.shown],
                point_size=self.unit_size * self.point_size.value,
                point_shape="rounded",
                point_shading="flat",
                precision="float32",
                visible=not (self.splats.value or self.mesh.value),
            )
            if self.splats.value:
                self._draw_splats()
            elif self.splat_node is not None:
                self.splat_node.visible = False
            self._draw_mesh()
            total = int(usable_pixels(self.scene).sum())
            self.counter.content = f"{self.shown:,} of {total:,} points"

    def _draw_mesh(self) -> None:
        """Fused at every `draw` while it is shown: the points may be others."""
        if self.mesh.value:
            _, mask = self.shown_scene()
            surface = mesh_glb(dataclasses.replace(self.scene, masks=mask))
            self.mesh_node = self.server.scene.add_glb("/mesh", surface)
        elif self.mesh_node is not None:
            self.mesh_node.visible = False

    def _resize(self) -> None:
        with self._lock:
            self.points.point_size = self.unit_size * self.point_size.value

    def _draw_splats(self) -> None:
        """Made at every `draw` while they are shown: covariances are nine numbers a Gaussian."""
        every = gaussian_cloud(self.kept)
        fields = (every.means, every.rotations, every.scales, every.opacities, every.sh)
        chosen = self.order[: self.shown]
        some = GaussianCloud(*(field[chosen] for field in fields))
        self.splat_node = self.server.scene.add_gaussian_splats(
            "/gaussians",
            some.means,
            some.covariances.astype(np.float32),
            some.colors_01.astype(np.float32),
            some.opacities[:, None].astype(np.float32),
        )
