"""The drop page: a small web server that takes photographs and has them reconstructed.

It answers four requests and nothing else: the page, the status, one photograph, and the order to
start. No request names a file: photographs are stored under names made here, in a temporary
folder that is removed at the end, and nothing is ever read back from it to a browser. Requests
that change anything must carry the token that is written into the page, and must come under a
host name this server was started for, so that other web sites cannot use it from a browser.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from mvdust3r_jax.media.kinds import FORMATS, MAX_PIXELS, ImageError, TooLargeError
from mvdust3r_jax.media.picture import read_header
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# How a job tells how far it is: share done in [0, 1], and a phrase.
Progress = Callable[[float, str], None]
# Photographs and a progress callback in, a scene out.
Reconstruct = Callable[[list[Path], Progress], SceneArrays]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Seconds that a silent connection may block a thread.
_TIMEOUT_S = 30


def url_host(host: str) -> str:
    """As it stands in addresses, where IPv6 takes brackets."""
    return f"[{host}]" if ":" in host else host


class Limits(NamedTuple):
    """What one upload may hold."""

    photographs: int = 48
    bytes_each: int = 40 << 20
    pixels_each: int = MAX_PIXELS


class Refused(Exception):
    """A request that is answered with an HTTP error and one sentence."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Session:
    """The photographs being collected, and the one job that may run."""

    def __init__(
        self, reconstruct: Reconstruct, show: Callable[[SceneArrays], None], limits: Limits
    ) -> None:
        self.reconstruct, self.show, self.limits = reconstruct, show, limits
        self._folder = tempfile.TemporaryDirectory(prefix="mvdust3r-")
        self._lock = threading.Lock()
        self._photographs: list[tuple[Path, str]] = []
        self._status = {"state": "idle", "share": 0.0, "message": ""}

    def close(self) -> None:
        """Remove the photographs."""
        self._folder.cleanup()

    @property
    def status(self) -> dict:
        """A copy: state (idle, running, done, failed), share, message, photographs."""
        with self._lock:
            return {**self._status, "photographs": len(self._photographs)}

    def add(self, name: str, data: bytes) -> None:
        """Store one photograph; Refused if it is none, or too large, or one too many.

        Only the header is decoded here. A file's own name is kept as a label and never as a path.
        """
        suffix = _photograph_suffix(data, self.limits.pixels_each, name)
        with self._lock:
            if self._status["state"] == "running":
                raise Refused(HTTPStatus.CONFLICT, "a reconstruction is running")
            count = len(self._photographs)
            if count >= self.limits.photographs:
                most = self.limits.photographs
                raise Refused(HTTPStatus.CONFLICT, f"no more than {most} photographs at once")
            path = Path(self._folder.name) / f"{secrets.token_hex(8)}{suffix}"
            path.write_bytes(data)
            self._photographs.append((path, _label(name, count)))

    def start(self) -> None:
        """Reconstruct what was collected, in a thread; Refused if that cannot be."""
        with self._lock:
            if self._status["state"] == "running":
                raise Refused(HTTPStatus.CONFLICT, "a reconstruction is running")
            if len(self._photographs) < 2:
                raise Refused(HTTPStatus.BAD_REQUEST, "at least two photographs are needed")
            job, self._photographs = self._photographs, []
            self._status = {"state": "running", "share": 0.0, "message": "starting"}
        threading.Thread(target=self._run, args=(job,), daemon=True).start()

    def clear(self) -> None:
        """Forget what was collected."""
        with self._lock:
            job, self._photographs = self._photographs, []
        _remove(job)

    def _run(self, job: list[tuple[Path, str]]) -> None:
        try:
            scene = self.reconstruct([path for path, _ in job], self._progress)
            scene.names = [label for _, label in job]
            self.show(scene)
            _remove(job)
            self._set("done", 1.0, f"{len(job)} photographs reconstructed")
        # Whatever goes wrong in the job is the browser's to hear of; the server goes on.
        except Exception as error:
            _remove(job)
            self._set("failed", 0.0, _with_labels(str(error) or type(error).__name__, job))

    def _progress(self, share: float, message: str) -> None:
        self._set("running", min(max(float(share), 0.0), 1.0), message)

    def _set(self, state: str, share: float, message: str) -> None:
        with self._lock:
            self._status = {"state": state, "share": share, "message": message}


def _with_labels(text: str, job: list[tuple[Path, str]]) -> str:
    """Files called what the user calls them, wherever a sentence has the names made here."""
    for path, label in job:
        text = text.replace(str(path), label).replace(path.name, label)
    return text


def _remove(job: list[tuple[Path, str]]) -> None:
    for path, _ in job:
        path.unlink(missing_ok=True)


def _label(name: str, index: int) -> str:
    """A printable label of at most 80 characters, from whatever the browser called the file."""
    base = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(c for c in base if c.isprintable())[:80].strip()
    return printable or f"photograph {index}"


def _photograph_suffix(data: bytes, max_pixels: int, name: str) -> str:
    """The suffix that fits the data's own format; Refused where it is no acceptable picture."""
    label = _label(name, 0)
    try:
        header = read_header(data, label)
    except TooLargeError as error:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
    except ImageError as error:
        message = f"not a picture that can be used: {error}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message) from error
    height, width = header.size
    if height * width > max_pixels:
        message = f"{label} has {width} x {height} pixels; at most {max_pixels:,} are accepted"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    return FORMATS[header.kind][0]


class _Server6(ThreadingHTTPServer):
    """For addresses of IPv6."""

    address_family = socket.AF_INET6


class UploadServer:
    """Serves the drop page, which frames the viewer at ``viewer_port`` of the same host."""

    def __init__(self, session: Session, host: str, port: int, viewer_port: int) -> None:
        self.session, self.token = session, secrets.token_urlsafe(24)
        self._bound = host
        page = resources.files("mvdust3r_jax.viewer").joinpath("page.html").read_text("utf-8")
        settings = {
            "token": self.token,
            "viewerPort": viewer_port,
            "limits": session.limits._asdict(),
        }
        self.page = page.replace("{{settings}}", json.dumps(settings), 1).encode()
        handler = type("Handler", (_Handler,), {"owner": self, "timeout": _TIMEOUT_S})
        server = _Server6 if ":" in host else ThreadingHTTPServer
        self._server = server((host, port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self.session.close()

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this server: any, unless it is bound to this machine alone.

        A page of another site whose name was made to point to 127.0.0.1 sends its own name.
        """
        local = {f"{url_host(name)}:{self.port}" for name in LOOPBACK}
        return self._bound not in LOOPBACK or header in local


class _Handler(BaseHTTPRequestHandler):
    """One request; ``owner`` is the UploadServer."""

    owner: UploadServer
    server_version, sys_version = "mvdust3r", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"/": self._page, "/status": self._status})

    def do_POST(self) -> None:
        handlers = {"/photographs": self._photograph, "/start": self._start, "/clear": self._clear}
        self._answer(handlers, needs_token=True)

    def _answer(self, handlers: dict[str, Callable[[], None]], needs_token: bool = False) -> None:
        # A refused body is not read, so the connection cannot be used for another request.
        try:
            if not self.owner.allows_host(self.headers.get("Host", "")):
                raise Refused(HTTPStatus.FORBIDDEN, "unknown host name")
            given = self.headers.get("X-Token", "").encode()
            if needs_token and not hmac.compare_digest(given, self.owner.token.encode()):
                raise Refused(HTTPStatus.FORBIDDEN, "this request did not come from the page")
            handler = handlers.get(urllib.parse.urlsplit(self.path).path)
            if handler is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
            handler()
        except Refused as refusal:
            self.close_connection = True
            self._send({"error": str(refusal)}, refusal.status)

    def _page(self) -> None:
        self._send_bytes(self.owner.page, "text/html; charset=utf-8", HTTPStatus.OK)

    def _status(self) -> None:
        self._send(self.owner.session.status)

    def _photograph(self) -> None:
        name = urllib.parse.unquote(self.headers.get("X-Name", ""))
        self.owner.session.add(name, self._body(self.owner.session.limits.bytes_each))
        self._send(self.owner.session.status)

    def _start(self) -> None:
        self._body(0)
        self.owner.session.start()
        self._send(self.owner.session.status)

    def _clear(self) -> None:
        self._body(0)
        self.owner.session.clear()
        self._send(self.owner.session.status)

    def _body(self, limit: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the length of the upload must be given")
        if int(length) > limit:
            message = f"{int(length):,} bytes; at most {limit:,} are accepted"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise Refused(HTTPStatus.BAD_REQUEST, "the upload broke off")
        return data

    def _send(self, content: dict, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send_bytes(json.dumps(content).encode(), "application/json", status)

    def _send_bytes(self, data: bytes, kind: str, status: HTTPStatus) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Requests are not logged: the page asks for the status twice a second."""
