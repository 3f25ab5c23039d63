"""One scene in a viser server: points, frusta, Gaussians, and the panel that steers them.

World frame of the scene; the viewer is told which way is up in it. Points are sorted by falling
confidence, so that a threshold is a prefix of the arrays.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import viser

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.cloud import cloud
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.export.mesh import mesh_glb
from mvdust3r_jax.export.point_filter import within_budget
from mvdust3r_jax.export.posed_views import (
    depth_maps,
    down_direction,
    posed_views,
    quat_from_rotation,
    usable_pixels,
    view_colors,
)
from mvdust3r_jax.export.preview import confidence_colors, depth_colors
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.crop_box import CropBox
from mvdust3r_jax.viewer.downloads import DownloadPanel
from mvdust3r_jax.viewer.flight import fly_to, screenshot
from mvdust3r_jax.viewer.keyframes import KeyframePanel
from mvdust3r_jax.viewer.ruler import Ruler

# More points than this make a browser without a graphics card slow to turn.
MAX_POINTS = 600_000
# Share of the points hidden at first.
HIDDEN_PERCENT = 10
# Rows of a frustum's picture are thinned to about this many.
_PICTURE_PX = 128


class SceneView:
    """Shows one scene at a time on ``server``; `show` replaces it.

    ``points`` and ``frusta`` are the viser nodes; ``confidence``, ``point_size``, ``splats`` and
    ``view_choice`` the controls. Controls call back in viser's threads: a lock keeps them apart.
    """

    def __init__(self, server: viser.ViserServer) -> None:
        self.server = server
        self._lock = threading.RLock()
        self.scene: SceneArrays | None = None
        self.title = ""
        self.scenes: dict[str, SceneArrays] = {}
        self._sources: Sequence[Path] | None = None
        self.ruler: Ruler | None = None
        server.scene.on_click(modifier="shift")(self._click)
        # The share button would send the scene to a public server.
        server.gui.configure_theme(show_share_button=False, show_logo=False)
        server.on_client_connect(self._aim)

    def offer(
        self, scenes: Mapping[str, SceneArrays], sources: Sequence[Path] | None = None
    ) -> None:
        """Show the first of some scenes by name; a list of them lets people change to others.

        sources: the photographs of a single scene, for downloads that hold them.
        """
        with self._lock:
            self.scenes, self._sources = dict(scenes), sources
            self.change(next(iter(scenes)))

    def change(self, name: str) -> None:
        """Show that one of the scenes that were offered."""
        with self._lock:
            self.title = name
            self.server.gui.set_panel_label(name)
            self.show(self.scenes[name])

    def _add_scene_choice(self) -> None:
        if len(self.scenes) > 1:
            choice = self.server.gui.add_dropdown(
                "Scene", tuple(self.scenes), initial_value=self.title
            )
            choice.on_update(lambda _: self.change(choice.value))

    def show(self, scene: SceneArrays) -> None:
        """Build nodes and controls for the scene, in place of what was shown."""
        with self._lock, self.server.atomic():
            self.server.scene.reset()
            self.server.gui.reset()
            # Graphics hold no more than float32.
            self.world_scene = scene
            self.scene, origin = scene.recentered()
            scene = self.scene
            self.server.scene.set_up_direction(-down_direction(scene))
            self.size = frusta.frustum_depth(scene)
            self.splat_node = self.mesh_node = None
            self._add_scene_choice()
            finite = usable_pixels(scene)
            self._add_points_controls()
            self.crop = CropBox(self.server, scene.points[finite], self._draw_points)
            self._draw_points()
            self._add_views_panel()
            reach = self.size / frusta.SIZE_SHARE
            unit = "m" if scene.metric else "units of the scene"
            self.ruler = Ruler(self.server, self._shown_points, 0.02 * self.size, unit)
            self.path = KeyframePanel(self.server, origin, reach)
            self.downloads = DownloadPanel(self.server, self._shown_scene, self._sources)
            self._add_frusta()
        for client in self.server.get_clients().values():
            self._aim(client)

    # ---- Points and Gaussians ----------------------------------------------------------------

    def _sort_points(self) -> None:
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

    def _shown_points(self) -> np.ndarray:
        return self.sorted_points[: self.shown]

    def _shown_scene(self) -> tuple[SceneArrays, np.ndarray]:
        """The scene in its own world, and the mask of what is shown of it, beyond any budget."""
        mask = usable_pixels(self.scene) & self.crop.inside(self.scene.points)
        if mask.any():
            least = np.quantile(self.scene.confidence[mask], self.confidence.value / 100)
            mask &= self.scene.confidence >= least
        return self.world_scene, mask

    def _click(self, event: viser.SceneClickEvent) -> None:
        with self._lock:
            if self.ruler is not None:
                self.ruler.click(event.ray_origin, event.ray_direction)

    def _add_points_controls(self) -> None:
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
        self.confidence.on_update(lambda _: self._draw_points())
        self.point_size.on_update(lambda _: self._resize_points())
        self.splats.on_update(lambda _: self._draw_points())
        self.mesh.on_update(lambda _: self._draw_points())

    def _draw_points(self) -> None:
        """Send the shown prefix; a node of the same name replaces the old one."""
        with self._lock, self.server.atomic():
            self._sort_points()
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
        """Fused when first asked for, and again when other points are shown."""
        if self.mesh.value:
            _, mask = self._shown_scene()
            surface = mesh_glb(dataclasses.replace(self.scene, masks=mask))
            self.mesh_node = self.server.scene.add_glb("/mesh", surface)
        elif self.mesh_node is not None:
            self.mesh_node.visible = False

    def _resize_points(self) -> None:
        with self._lock:
            self.points.point_size = self.unit_size * self.point_size.value

    def _draw_splats(self) -> None:
        """Made when first asked for: covariances are nine numbers a Gaussian."""
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

    # ---- Views -------------------------------------------------------------------------------

    def _add_views_panel(self) -> None:
        gui, scene = self.server.gui, self.scene
        self.pictures = (view_colors(scene), depth_colors(scene), confidence_colors(scene))
        self.labels = tuple(f"{i}: {name}" for i, name in enumerate(scene.names))
        with gui.add_folder("Views"):
            self.frusta_visible = gui.add_checkbox("Cameras", True)
            self.view_choice = gui.add_dropdown("View", self.labels)
            fly = gui.add_button("Fly to this view")
            kinds = ("Photograph", "Depth (red is near)", "Confidence (yellow is high)")
            self.panels = [
                gui.add_image(images[0], label=kind, format="jpeg")
                for images, kind in zip(self.pictures, kinds, strict=True)
            ]
            self.depth_range = gui.add_markdown("")
        shot = gui.add_button("Save screenshot")
        self.view_choice.on_update(lambda _: self._show_pictures())
        self.frusta_visible.on_update(lambda _: self._toggle_frusta())
        fly.on_click(lambda event: self._fly(event.client, self.chosen_view))
        shot.on_click(lambda event: screenshot(event.client))
        self._show_pictures()

    @property
    def chosen_view(self) -> int:
        """Index of the view in the drop-down list."""
        return self.labels.index(self.view_choice.value)

    def _show_pictures(self) -> None:
        with self._lock, self.server.atomic():
            view = self.chosen_view
            for panel, images in zip(self.panels, self.pictures, strict=True):
                panel.image = images[view]
            depth = depth_maps(self.scene)[view][usable_pixels(self.scene)[view]]
            finite = depth[np.isfinite(depth)]
            text = f"Depth {finite.min():.3g} to {finite.max():.3g}" if finite.size else "No depth"
            self.depth_range.content = text

    def _add_frusta(self) -> None:
        self.frusta = {}
        height, width = self.scene.images_01.shape[1:3]
        step = max(1, max(height, width) // _PICTURE_PX)
        for view in posed_views(self.scene).tolist():
            pose = np.asarray(self.scene.world_from_cam[view], np.float64)
            node = self.server.scene.add_camera_frustum(
                f"/views/{view}",
                fov=vertical_fov(self.scene, view),
                aspect=width / height,
                scale=0.6 * self.size,
                color=frusta.view_color(view, len(self.scene.names)),
                thickness=0.02 * self.size,
                image=self.pictures[0][view, ::step, ::step],
                format="jpeg",
                wxyz=quat_from_rotation(pose[:3, :3]),
                position=pose[:3, 3],
            )
            node.on_click(lambda event, view=view: self._choose(event.client, view))
            self.frusta[view] = node

    def _toggle_frusta(self) -> None:
        with self._lock, self.server.atomic():
            for node in self.frusta.values():
                node.visible = self.frusta_visible.value

    def _choose(self, client: viser.ClientHandle, view: int) -> None:
        self.view_choice.value = self.labels[view]
        self._fly(client, view)

    def _fly(self, client: viser.ClientHandle | None, view: int) -> None:
        if client is not None and view in self.frusta:
            fov = vertical_fov(self.scene, view)
            # From inside a camera its picture, or a neighbor's, would hide the scene.
            self.frusta_visible.value = False
            fly_to(client, self.scene.world_from_cam[view], fov, self.size / frusta.SIZE_SHARE)

    def _aim(self, client: viser.ClientHandle) -> None:
        """Put a browser a little behind and above the first camera, looking where it looks."""
        if self.scene is None:
            return
        views = posed_views(self.scene)
        pose = np.asarray(self.scene.world_from_cam[views[0]], float) if views.size else np.eye(4)
        reach = self.size / frusta.SIZE_SHARE
        with client.atomic():
            client.camera.near, client.camera.far = 1e-3 * reach, 1e3 * reach
            client.camera.up_direction = -pose[:3, 1]
            client.camera.position = pose[:3, 3] - self.size * (6 * pose[:3, 2] + 2 * pose[:3, 1])
            client.camera.look_at = pose[:3, 3] + reach * pose[:3, 2]


def vertical_fov(scene: SceneArrays, view: int) -> float:
    """Vertical field of view in radians."""
    height = np.asarray(scene.images_01).shape[1]
    return float(2 * np.arctan(0.5 * height / np.asarray(scene.intrinsics)[view, 1, 1]))
