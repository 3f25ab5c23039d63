"""The viewer without a browser: nodes, controls, and what the drop page's server refuses."""

import contextlib
import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.media.photographs import read_photo
from mvdust3r_jax.viewer import Limits, Viewer, guard
from mvdust3r_jax.viewer.uploads import LOOPBACK
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


@pytest.fixture
def shown():
    """A viewer of three views without a drop page."""
    with Viewer(box_room(3), port=0) as viewer:
        yield viewer.view


@pytest.fixture
def drop_page():
    """A viewer that waits for photographs; each becomes a view, and the job can be held."""
    gate, asked = threading.Event(), []
    gate.set()

    def reconstruct(paths, progress, wishes):
        asked.append(wishes)
        progress(0.5, "half way")
        assert gate.wait(10)
        if len(paths) == 3:
            raise ValueError(f"{paths[1]} is too odd, as {paths[2].name} is")
        return box_room(len(paths))

    limits = Limits(photographs=4, bytes_each=20_000, pixels_each=100_000)
    with Viewer(reconstruct=reconstruct, port=0, limits=limits) as viewer:
        viewer.gate, viewer.asked = gate, asked
        yield viewer


def finish(viewer):
    """The status once the job is over."""
    for _ in range(200):
        status = viewer.uploads.session.status
        if status["state"] != "running":
            return status
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_scene_becomes_nodes(shown):
    """Points, one frustum per posed view and three pictures are there, poses as in the scene."""
    scene = shown.scene
    assert shown.points.name == "/points"
    assert sorted(shown.frusta) == [0, 1, 2]
    np.testing.assert_allclose(shown.frusta[2].position, scene.world_from_cam[2, :3, 3], atol=1e-6)
    assert len(shown.panels) == 3
    # 32 pixels at a focal length of 43.2.
    assert shown.frusta[0].fov == pytest.approx(2 * np.arctan(16 / 43.2), rel=1e-6)


def test_confidence_slider_changes_the_points_sent(shown):
    """The slider's percentage of points goes, and those are the least confident ones."""
    total = shown.scene.masks.sum()
    assert len(shown.points.points) == shown.shown == round(0.9 * total)
    shown.confidence.value = 60
    wait_for(lambda: len(shown.points.points) == round(0.4 * total))
    order = np.argsort(-shown.scene.confidence.reshape(-1), kind="stable")
    best = shown.scene.points.reshape(-1, 3)[order[: shown.shown]]
    np.testing.assert_array_equal(shown.points.points, best)
    assert f"{shown.shown:,}" in shown.counter.content


def wait_for(condition):
    """Callbacks may run in viser's own threads."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing changed")


def test_gaussians_take_the_place_of_points(shown):
    """Ticking the box sends Gaussians and hides the points; unticking undoes it."""
    shown.splats.value = True
    wait_for(lambda: shown.splat_node is not None and not shown.points.visible)
    shown.splats.value = False
    wait_for(lambda: shown.points.visible and not shown.splat_node.visible)


def test_view_choice_changes_the_pictures(shown):
    """The chosen view's photograph, depth and confidence are those that are shown."""
    shown.view_choice.value = shown.labels[2]
    photograph, depth, _ = shown.panels
    wait_for(lambda: np.array_equal(photograph.image, shown.pictures[0][2]))
    wait_for(lambda: np.array_equal(depth.image, shown.pictures[1][2]))


def test_next_scene_replaces_the_first(shown):
    """A second scene leaves no node or control of the first."""
    shown.show(box_room(2))
    assert sorted(shown.frusta) == [0, 1] and len(shown.labels) == 2


def test_the_page_is_called_as_the_scene():
    """Title of the page and label of the panel; another one of several scenes takes their place."""
    with Viewer({"a <b>": box_room(2), "second": box_room(3)}, port=0) as viewer:
        for title, escaped in [("a <b>", "a &lt;b&gt;"), ("second", "second")]:
            viewer.view.change(title)
            with urllib.request.urlopen(viewer.url, timeout=10) as page:
                assert f"<title>{escaped}</title>" in page.read().decode()
        assert len(viewer.view.frusta) == 3


def test_scene_without_points_or_poses_is_shown():
    """An empty mask and missing poses are no reason to fail."""
    scene = box_room(2)
    scene.masks[:] = False
    scene.pose_ok[:] = False
    with Viewer(scene, port=0) as viewer:
        assert viewer.view.shown == 0 and not viewer.view.frusta


def test_up_is_that_of_the_cameras_in_a_world_of_its_own(shown, monkeypatch):
    """-y for the reference camera's world, the mean of the cameras' up for that of known poses."""
    told = []
    monkeypatch.setattr(type(shown.server.scene), "set_up_direction", lambda _, up: told.append(up))
    scene = box_room(2)
    shown.show(scene)
    turn = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    scene.world_from_cam = (turn @ scene.world_from_cam).astype(np.float32)
    scene.world_is_reference = False
    shown.show(scene)
    np.testing.assert_allclose(told, [[0, -1, 0], [0, 0, 1]], atol=1e-6)


def test_listens_on_this_machine_only_unless_told():
    """The default address is the loopback one, for both servers."""
    with Viewer(reconstruct=lambda paths, progress, wishes: None, port=0) as viewer:
        assert viewer.local_only
        assert viewer.server.get_host() in LOOPBACK
        assert viewer.uploads._server.server_address[0] == "127.0.0.1"
        assert viewer.url == f"http://127.0.0.1:{viewer.uploads.port}"


def test_ipv6_loopback_is_local_and_has_a_valid_address():
    """Its address opens the page, under its own name only."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Viewer(reconstruct=lambda paths, progress, wishes: None, host="::1", port=0) as viewer:
        assert viewer.local_only and viewer.url == f"http://[::1]:{viewer.uploads.port}"
        with urllib.request.urlopen(viewer.url, timeout=10) as page:
            assert viewer.uploads.token.encode() in page.read()
        assert not viewer.uploads.allows_host(f"evil.example:{viewer.uploads.port}")


def test_drop_page_takes_the_next_free_port():
    """Where the wanted port is in use, and the viewer has the one after it."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        wanted = busy.getsockname()[1]
        with Viewer(reconstruct=lambda paths, progress, wishes: None, port=wanted) as viewer:
            # Other programs may hold some of the ports that follow.
            assert wanted < viewer.uploads.port < wanted + 100


def test_pages_take_what_the_command_line_takes(drop_page):
    """Every format by its content, whatever the name; several pictures, where one is the main."""
    for kind in ("PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF"):
        assert post(drop_page, "/photographs", jpeg(kind=kind))[0] == 200
        assert post(drop_page, "/clear")[0] == 200
    buffer = io.BytesIO()
    first = Image.new("RGB", (8, 6))
    first.save(buffer, "MPO", save_all=True, append_images=[first])
    assert post(drop_page, "/photographs", buffer.getvalue(), "a.jpg")[0] == 200
    kept = [path for path, _ in drop_page.uploads.session._photographs]
    assert [path.suffix for path in kept] == [".mpo"]
    assert read_photo(kept[0]).original_size == (6, 8)


def test_viewer_needs_something_to_show():
    """Neither a scene nor a way to make one is an error at once."""
    with pytest.raises(ValueError, match="a scene, or a way"):
        Viewer()


def test_photographs_become_a_scene(drop_page):
    """Two uploads and a start: progress is told, the scene is shown under the files' names."""
    drop_page.gate.clear()
    for name in ("kitchen ü.jpg", "../../etc/passwd"):
        assert post(drop_page, "/photographs", jpeg(), name)[0] == 200
    assert post(drop_page, "/start")[0] == 200
    wait_for(lambda: drop_page.uploads.session.status["share"] == 0.5)
    assert request(drop_page, "GET", "/status")[1]["message"] == "half way"
    assert post(drop_page, "/photographs", jpeg())[0] == 409
    drop_page.gate.set()
    assert finish(drop_page)["state"] == "done"
    assert drop_page.view.scene.names == ["kitchen ü.jpg", "passwd"]
    assert drop_page.view.title == "kitchen ü.jpg and 1 more"
    folder = drop_page.uploads.session._folder.name
    assert len(os.listdir(folder)) == 2  # for downloads, until the next job


def test_failed_job_is_told_and_the_next_one_runs(drop_page):
    """An error in the job becomes the status message; another upload works afterwards."""
    for count, state in ((3, "failed"), (2, "done")):
        post(drop_page, "/clear")
        for number in range(count):
            post(drop_page, "/photographs", jpeg(), f"{number}.jpg")
        post(drop_page, "/start")
        status = finish(drop_page)
        assert status["state"] == state
        assert count == 2 or status["message"] == "1.jpg is too odd, as 2.jpg is"
    assert drop_page.view.scene is not None


def test_order_and_options_reach_the_job(drop_page):
    """Files in the order asked for, some left out; the reference, the focal length, the frames."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        post(drop_page, "/photographs", jpeg(), name)
    asked = {"order": [2, 0], "reference": 1, "focal": 1480, "frames": 6}
    assert post(drop_page, "/start", json.dumps(asked))[0] == 200
    assert finish(drop_page)["state"] == "done"
    assert drop_page.view.scene.names == ["c.jpg", "a.jpg"]
    assert drop_page.asked == [(1, 1480, 6)]


@pytest.mark.parametrize(
    "asked",
    [
        "no JSON",
        [],
        {"order": [0, 0]},
        {"order": [7]},
        {"order": "all"},
        {"reference": 2},
        {"reference": "../x"},
        {"focal": -1},
        {"focal": True},
        {"frames": 10**9},
    ],
)
def test_impossible_wishes_are_refused(drop_page, asked):
    """With a sentence, and nothing is started; the photographs are still there."""
    for _ in range(2):
        post(drop_page, "/photographs", jpeg())
    status, content = post(drop_page, "/start", json.dumps(asked).replace('"no JSON"', "{"))
    assert status == 400 and content["error"]
    assert drop_page.uploads.session.status["photographs"] == 2


def test_a_job_can_be_cancelled_and_started_again(drop_page):
    """It stops when it next tells how far it is; its photographs are still there."""
    drop_page.gate.clear()
    for _ in range(2):
        post(drop_page, "/photographs", jpeg())
    post(drop_page, "/start")
    wait_for(lambda: drop_page.uploads.session.status["share"] == 0.5)
    assert post(drop_page, "/cancel")[1]["message"] == "will stop after this step"
    drop_page.gate.set()
    assert finish(drop_page)["state"] == "cancelled" and drop_page.view.scene is None
    assert post(drop_page, "/start")[0] == 200
    assert finish(drop_page)["state"] == "done"


def test_a_video_instead_of_photographs(drop_page):
    """One is enough; its name's ending must be a video's, and frames are called as it is."""
    assert post(drop_page, "/videos", b"0" * 5000, "walk.txt")[0] == 415
    assert post(drop_page, "/videos", b"0" * 5000, "walk.mp4")[0] == 200
    kept = drop_page.uploads.session._photographs[0][0]
    assert kept.suffix == ".mp4" and kept.stat().st_size == 5000
    assert post(drop_page, "/start", json.dumps({"frames": 5}))[0] == 200
    assert finish(drop_page)["state"] == "done"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 415, "not a picture"),
        (b"hello", 415, "not a picture"),
        (jpeg()[:40], 415, "not a picture"),
        (animation(), 415, "an animation of 2 pictures"),
        (jpeg(500, 300, "PNG"), 413, "500 x 300"),
        (bytes(20_001), 413, "20,001 bytes"),
    ],
    ids=["empty", "text", "truncated", "animation", "too many pixels", "too many bytes"],
)
def test_bad_photographs_are_refused(drop_page, body, status, words):
    """What is no acceptable picture gets its HTTP error with one sentence, and is not kept."""
    code, content = post(drop_page, "/photographs", body)
    assert code == status and words in content["error"]
    assert drop_page.uploads.session.status["photographs"] == 0


def test_number_of_photographs_is_limited(drop_page):
    """One more than the limit is refused; too few do not start; clearing starts anew."""
    for _ in range(4):
        assert post(drop_page, "/photographs", jpeg())[0] == 200
    assert post(drop_page, "/photographs", jpeg())[0] == 409
    assert post(drop_page, "/clear")[1]["photographs"] == 0
    code, content = post(drop_page, "/start")
    assert code == 400 and "at least two" in content["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../setup.cfg",
        "/%2e%2e/setup.cfg",
        "/photographs",
        "//status/..",
        "/page.html",
    ],
)
def test_no_other_path_is_served(drop_page, path):
    """Whatever is asked for beside the page and the status is not found."""
    assert request(drop_page, "GET", path)[0] == 404


def test_other_sites_cannot_use_the_server(drop_page):
    """Without the page's token nothing changes; under a foreign host name nothing is answered."""
    assert request(drop_page, "POST", "/photographs", jpeg())[0] == 403
    assert request(drop_page, "POST", "/start", b"", **{"X-Token": "guess"})[0] == 403
    assert request(drop_page, "GET", "/", Host="evil.example:80")[0] == 403
    assert drop_page.uploads.session.status["photographs"] == 0
    status, page = request(drop_page, "GET", "/")
    assert status == 200 and drop_page.uploads.token.encode() in page


@pytest.mark.parametrize(
    "bound, host, origin, own",
    [
        ("127.0.0.1", "127.0.0.1:8080", None, True),
        ("127.0.0.1", "localhost:8080", "http://localhost:8081", True),
        ("::1", "[::1]:8080", "http://[::1]:8081", True),
        ("127.0.0.1", "127.0.0.1:8080", "http://evil.com", False),
        ("127.0.0.1", "127.0.0.1:8080", "null", False),
        ("127.0.0.1", "evil.com:8080", "http://evil.com:8080", False),
        ("0.0.0.0", "studio.local:8080", "http://studio.local:8081", True),
        ("0.0.0.0", "studio.local:8080", "http://evil.com", False),
    ],
)
def test_only_own_pages_are_answered(bound, host, origin, own):
    """By the page that asks, and by the name under which it does."""
    assert guard.is_own_page(bound, host, origin) == own


@pytest.mark.parametrize(
    "headers, status",
    [({}, 101), ({"Origin": "http://evil.com"}, 403), ({"Host": "evil.com"}, 403)],
)
def test_the_scene_is_not_sent_to_other_sites(headers, status):
    """The viewer's WebSocket: a foreign page's handshake is refused, the page's own is not."""
    with Viewer(box_room(2), port=0) as viewer:
        port = viewer.server.get_port()
        given = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        } | headers
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.putrequest("GET", "/", skip_host=True)
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.getresponse().status == status
