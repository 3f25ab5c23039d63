"""Viewers to test, with and without a drop page, and requests to its server."""

import http.client
import io
import json
import threading
import time
import urllib.parse
import urllib.request

import pytest
from PIL import Image

from mvdust3r_jax.viewer import Limits, Viewer
from tests.export_scene import box_room


def jpeg(width=32, height=24, kind="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, kind)
    return buffer.getvalue()


def animation():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def request(viewer, method, path, body=None, **headers):
    """(status, JSON content or bytes) of one request to the drop page's server."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.uploads.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(data) if is_json else data
    finally:
        connection.close()


def post(viewer, path, body=b"", name="a.jpg"):
    headers = {"X-Token": viewer.uploads.token, "X-Name": urllib.parse.quote(name)}
    return request(viewer, "POST", path, body, **headers)


def finish(viewer):
    """The status once the job is over."""
    for _ in range(200):
        status = viewer.uploads.session.status
        if status["state"] != "running":
            return status
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def wait_for(condition):
    """Callbacks may run in viser's own threads."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing changed")


@pytest.fixture
def shown():
    """A viewer of three views without a drop page."""
    with Viewer(box_room(3), port=0) as viewer:
        yield viewer.view


@pytest.fixture
def drop_page():
    """A viewer that waits for photographs; each becomes a view, and the job can be held."""
    gate, asked, given = threading.Event(), [], []
    gate.set()

    def reconstruct(paths, progress, wishes):
        asked.append(wishes)
        given.append(paths)
        progress(0.5, "half way")
        assert gate.wait(10)
        if len(paths) == 3:
            raise ValueError(f"{paths[1]} is too odd, as {paths[2].name} is")
        return box_room(len(paths))

    limits = Limits(photographs=4, bytes_each=20_000, pixels_each=100_000)
    with Viewer(reconstruct=reconstruct, port=0, limits=limits) as viewer:
        viewer.gate, viewer.asked, viewer.given = gate, asked, given
        yield viewer
