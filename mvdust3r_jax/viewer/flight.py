"""What one browser is asked to do: fly its camera somewhere, and save what it shows."""

from __future__ import annotations

import io
import time

import numpy as np
import viser
from PIL import Image

from mvdust3r_jax.export.camera_paths import slerp
from mvdust3r_jax.export.posed_views import quat_from_rotation

FLIGHT_SECONDS, FLIGHT_STEPS = 0.6, 24
SCREENSHOT_WIDTH = 1600
# A browser tab in the background may never draw.
_SCREENSHOT_TIMEOUT_S = 20


def fly_to(
    client: viser.ClientHandle, world_from_cam: np.ndarray, fov: float, reach: float
) -> None:
    """Move the browser's camera smoothly onto a pose [4, 4], OpenCV axes.

    fov: vertical, radians. reach: distance to the point around which the mouse then turns.
    """
    pose = np.asarray(world_from_cam, np.float64)
    camera = client.camera
    end = quat_from_rotation(pose[:3, :3])
    first = (camera.wxyz.copy(), camera.position.copy(), camera.fov)
    for step in range(1, FLIGHT_STEPS + 1):
        t = step / FLIGHT_STEPS
        t = t * t * (3 - 2 * t)
        with client.atomic():
            camera.wxyz = slerp(first[0][None], end[None], np.array([[t]]))[0]
            camera.position = (1 - t) * first[1] + t * pose[:3, 3]
            camera.fov = (1 - t) * first[2] + t * fov
        client.flush()
        time.sleep(FLIGHT_SECONDS / FLIGHT_STEPS)
    camera.look_at = pose[:3, 3] + reach * pose[:3, 2]


def screenshot(client: viser.ClientHandle | None) -> None:
    """Have the browser render its view as a PNG and save it as a download."""
    if client is None:
        return
    height = max(1, round(SCREENSHOT_WIDTH / client.camera.aspect))
    image = client.get_render(
        height, SCREENSHOT_WIDTH, transport_format="png", timeout=_SCREENSHOT_TIMEOUT_S
    )
    buffer = io.BytesIO()
    Image.fromarray(image[..., :3]).save(buffer, "PNG")
    client.send_file_download("screenshot.png", buffer.getvalue(), save_immediately=True)
