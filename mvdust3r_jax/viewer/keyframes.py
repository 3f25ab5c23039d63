"""A camera path made by hand: views of the browser, kept in order, as a file for ``render``."""

from __future__ import annotations

import json

import numpy as np
import viser
from jaxtyping import Float

from mvdust3r_jax.export import path_file
from mvdust3r_jax.export.path_file import Keyframe
from mvdust3r_jax.export.posed_views import rotation_matrices
from mvdust3r_jax.viewer.flight import fly_to

FILE_NAME = "camera_path.json"
_HOW = "`mvdust3r render SCENE --path camera_path.json` makes a video of it."


class KeyframePanel:
    """Adds its controls to the panel.

    origin: where the shown scene's origin lies in its world, in which the file is. reach: distance
    around which the mouse turns.
    """

    def __init__(self, server: viser.ViserServer, origin: np.ndarray, reach: float) -> None:
        self._origin, self._reach = origin, reach
        self.frames: list[Keyframe] = []
        gui = server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            add = gui.add_button("Add this view")
            back = gui.add_button("Remove the last")
            play = gui.add_button("Play")
            save = gui.add_button(f"Save {FILE_NAME}")
            self.text = gui.add_markdown("No view yet.")
        add.on_click(lambda event: self._add_shown(event.client.camera))
        back.on_click(lambda _: self.remove())
        play.on_click(lambda event: self._play(event.client))
        save.on_click(lambda event: self._save(event.client))

    def add(
        self, wxyz: Float[np.ndarray, "4"], position: Float[np.ndarray, "3"], fov: float
    ) -> None:
        """A browser's camera, in the shown scene, becomes the next view of the path.

        fov: vertical, radians.
        """
        pose = np.eye(4)
        pose[:3, :3] = rotation_matrices(np.asarray(wxyz, np.float64))
        pose[:3, 3] = position + self._origin
        self.frames.append(Keyframe(pose, float(np.rad2deg(fov))))
        self._tell()

    def _add_shown(self, camera: viser.CameraHandle) -> None:
        self.add(camera.wxyz, camera.position, float(camera.fov))

    def remove(self) -> None:
        """The last view goes."""
        self.frames = self.frames[:-1]
        self._tell()

    def _tell(self) -> None:
        count = len(self.frames)
        self.text.content = f"{count} views. {_HOW if count > 1 else 'A path takes two.'}"

    def _play(self, client: viser.ClientHandle) -> None:
        for frame in self.frames:
            pose = frame.world_from_cam.copy()
            pose[:3, 3] -= self._origin
            fly_to(client, pose, np.deg2rad(frame.vertical_fov_deg), self._reach)

    def _save(self, client: viser.ClientHandle) -> None:
        content = json.dumps(path_file.content(self.frames), indent=1).encode()
        client.send_file_download(FILE_NAME, content, save_immediately=True)
