"""The drop page: a small web server that takes photographs and videos to be reconstructed.

It answers a handful of requests and nothing else: the page, the status, one photograph or video,
and the orders to start, to clear and to cancel. No request names a file (`session`). Requests
that change anything must carry the token that is written into the page, and must come under a
host name this server was started for, so that other web sites cannot use it from a browser.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

from mvdust3r_jax.viewer.requests import Refused
from mvdust3r_jax.viewer.session import Session

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Seconds that a silent connection may block a thread.
_TIMEOUT_S = 30
# What the page asks for at a start: a list of numbers and three choices.
_MAX_DIGITS = 20
_MAX_ORDER_BYTES = 1 << 14


def url_host(host: str) -> str:
    """As it stands in addresses, where IPv6 takes brackets."""
    return f"[{host}]" if ":" in host else host


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
        if self.port == 80:  # which browsers leave out
            local |= {url_host(name) for name in LOOPBACK}
        return self._bound not in LOOPBACK or header in local


class _Handler(BaseHTTPRequestHandler):
    """One request; ``owner`` is the UploadServer."""

    owner: UploadServer
    server_version, sys_version = "mvdust3r", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"/": self._page, "/status": self._status})

    def do_POST(self) -> None:
        handlers = {"/photographs": self._photograph, "/videos": self._video, "/start": self._start}
        handlers |= {"/clear": self._clear, "/cancel": self._cancel}
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

    def _video(self) -> None:
        name = urllib.parse.unquote(self.headers.get("X-Name", ""))
        size = self._length(self.owner.session.limits.bytes_video)
        self.owner.session.add_video(name, self.rfile, size)
        self._send(self.owner.session.status)

    def _cancel(self) -> None:
        self._body(0)
        self.owner.session.cancel()
        self._send(self.owner.session.status)

    def _start(self) -> None:
        text = self._body(_MAX_ORDER_BYTES)
        try:
            asked = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "what is asked for is no JSON") from error
        if not isinstance(asked, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "what is asked for is no JSON object")
        self.owner.session.start(asked)
        self._send(self.owner.session.status)

    def _clear(self) -> None:
        self._body(0)
        self.owner.session.clear()
        self._send(self.owner.session.status)

    def _length(self, limit: int) -> int:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the length of the upload must be given")
        # Python reads no numbers of thousands of digits.
        if len(length) > _MAX_DIGITS or int(length) > limit:
            told = f"{int(length[:_MAX_DIGITS]):,}"
            message = f"{told} bytes; at most {limit:,} are accepted"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return int(length)

    def _body(self, limit: int) -> bytes:
        length = self._length(limit)
        data = self.rfile.read(length)
        if len(data) < length:
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
