"""One scene in a viser server: its panels, what a click does, where a browser looks first.

World frame of the scene; the viewer is told which way is up in it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import viser

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.posed_views import down_direction, posed_views
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.downloads import DownloadPanel
from mvdust3r_jax.viewer.keyframes import KeyframePanel
from mvdust3r_jax.viewer.points_panel import PointsPanel
from mvdust3r_jax.viewer.ruler import Ruler
from mvdust3r_jax.viewer.views_panel import ViewsPanel


class SceneView:
    """Shows one scene at a time on ``server``; `show` replaces it.

    ``cloud``, ``views``, ``ruler``, ``path`` and ``downloads`` are its panels, which call back in
    viser's threads: a lock keeps them apart.
    """

    def __init__(self, server: viser.ViserServer) -> None:
        self.server = server
        self._lock = threading.RLock()
        self.scene: SceneArrays | None = None
        self.title = ""
        self.scenes: dict[str, SceneArrays] = {}
        self._sources: Sequence[Path] | None = None
        self.cloud: PointsPanel | None = None
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
            if self.cloud is not None:
                self.cloud.close()
            self.server.scene.reset()
            self.server.gui.reset()
            # Graphics hold no more than float32.
            self.scene, origin = scene.recentered()
            self.server.scene.set_up_direction(-down_direction(self.scene))
            self.size = frusta.frustum_depth(self.scene)
            reach = self.size / frusta.SIZE_SHARE
            self._add_scene_choice()
            self.cloud = PointsPanel(self.server, self._lock, self.scene, scene)
            self.views = ViewsPanel(self.server, self._lock, self.scene, self.size)
            unit = "units of the known poses" if scene.metric else "units of the scene"
            self.ruler = Ruler(self.server, self.cloud.shown_points, 0.02 * self.size, unit)
            self.path = KeyframePanel(self.server, origin, reach)
            self.downloads = DownloadPanel(self.server, self.cloud.shown_scene, self._sources)
        for client in self.server.get_clients().values():
            self._aim(client)

    def _click(self, event: viser.SceneClickEvent) -> None:
        with self._lock:
            if self.ruler is not None:
                self.ruler.click(event.ray_origin, event.ray_direction)

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
