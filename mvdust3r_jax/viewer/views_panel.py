"""The views of a scene: a frustum for each camera, the pictures of one, and flights to it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import viser

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.posed_views import (
    depth_maps,
    posed_views,
    quat_from_rotation,
    usable_pixels,
    view_colors,
)
from mvdust3r_jax.export.preview import confidence_colors, depth_colors
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.flight import fly_to, screenshot

# Rows of a frustum's picture are thinned to about this many.
_PICTURE_PX = 128


class ViewsPanel:
    """Adds its controls to the panel and the cameras to the scene.

    ``frusta`` are the viser nodes by view; ``view_choice`` and ``frusta_visible`` the controls,
    ``panels`` the pictures. ``lock`` keeps viser's threads apart.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        lock: AbstractContextManager,
        scene: SceneArrays,
        size: float,
    ) -> None:
        """size: of a frustum, in the scene's unit."""
        self.server, self._lock = server, lock
        self.scene, self._size = scene, size
        self._add_controls()
        self._add_frusta()

    def _add_controls(self) -> None:
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
                scale=0.6 * self._size,
                color=frusta.view_color(view, len(self.scene.names)),
                thickness=0.02 * self._size,
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
            fly_to(client, self.scene.world_from_cam[view], fov, self._size / frusta.SIZE_SHARE)


def vertical_fov(scene: SceneArrays, view: int) -> float:
    """Vertical field of view in radians."""
    height = np.asarray(scene.images_01).shape[1]
    return float(2 * np.arctan(0.5 * height / np.asarray(scene.intrinsics)[view, 1, 1]))
