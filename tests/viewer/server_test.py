"""Where the viewer listens and whom it answers."""

import contextlib
import http.client
import socket
import urllib.parse
import urllib.request
from types import SimpleNamespace

import pytest

from mvdust3r_jax.viewer import Viewer, guard
from mvdust3r_jax.viewer.uploads import UploadServer
from tests.export_scene import box_room
from tests.viewer.drop_page import jpeg, request


def test_viewer_needs_something_to_show():
    """Neither a scene nor a way to make one is an error at once."""
    with pytest.raises(ValueError, match="a scene, or a way"):
        Viewer()


def test_listens_on_this_machine_only_unless_told():
    """The default address is the loopback one, for both servers."""
    with Viewer(reconstruct=lambda paths, progress, wishes: None, port=0) as viewer:
        assert viewer.local_only
        for port in (viewer.server.get_port(), viewer.uploads.port):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            # Another address of this machine.
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.2", port), timeout=1)
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


def test_the_last_port_is_a_port():
    """There is none above it for the viewer itself, which then takes any."""
    with Viewer(reconstruct=lambda paths, progress, wishes: None, port=65535) as viewer:
        assert viewer.uploads.port == 65535 and viewer.server.get_port() < 65535


def test_browsers_name_no_port_80():
    """The port that an address without one means."""

    def allowed(port, host):
        return UploadServer.allows_host(SimpleNamespace(port=port, _bound="127.0.0.1"), host)

    assert allowed(80, "localhost") and allowed(80, "127.0.0.1:80") and allowed(81, "localhost:81")
    assert not allowed(8080, "localhost") and not allowed(80, "elsewhere")


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
            connection.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.getresponse().status == status
