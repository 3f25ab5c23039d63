"""Who may talk to the viewer, and what its page is called.

Addresses that can be listened on, and pages that are the viewer's own.

A page of another site can make a browser on this machine open connections to it. Browsers say which
page asks (``Origin``) and under which name (``Host``); programs that are no browser send no origin.
"""

from __future__ import annotations

import html
import http
import re
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from mvdust3r_jax.viewer.uploads import LOOPBACK


class AddressError(ValueError):
    """A host or port that cannot be listened on."""


def check_address(host: str, port: int) -> None:
    """That this machine can listen on ``host``, and that ``port`` is one (0: any).

    Raises:
      AddressError: saying which of the two is wrong.
    """
    if not 0 <= port < 1 << 16:
        raise AddressError(f"the port must lie in 0..65535, got {port}")
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AddressError(f"cannot listen on the host {host!r}: {reason}") from error


def is_own_page(bound: str, host: str, origin: str | None) -> bool:
    """Whether a request may be answered by a server bound to ``bound``.

    host: the ``Host`` header; must be a name of this machine where only it can connect. origin: of
    the page that asks, None for programs that are no browser; must come from the same host, on
    whatever port: the drop page has one of its own.
    """
    name = urllib.parse.urlsplit(f"//{host}").hostname
    if bound in LOOPBACK and name not in LOOPBACK:
        return False
    return origin is None or urllib.parse.urlsplit(origin).hostname == name


@contextmanager
def guarded(bound: str, title: Callable[[], str]) -> Iterator[None]:
    """WebSocket servers that start inside the block answer the viewer's own pages only.

    Their page is called ``title()``. viser, which starts one, offers no place for either.
    """
    serve = websockets.asyncio.server.serve

    def guarded_serve(handler: Any, *args: Any, process_request: Any = None, **options: Any) -> Any:
        async def check(connection: ServerConnection, request: Request) -> Response | None:
            headers = request.headers
            if not is_own_page(bound, headers.get("Host", ""), headers.get("Origin")):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "not the viewer's own page\n")
            if "Accept-Encoding" in headers:
                del headers["Accept-Encoding"]  # a page that is changed is not compressed
            answer = process_request(connection, request) if process_request else None
            answer = await answer if hasattr(answer, "__await__") else answer
            return _titled(answer, title()) if answer else None

        return serve(handler, *args, process_request=check, **options)

    websockets.asyncio.server.serve = guarded_serve
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve


def _titled(answer: Response, title: str) -> Response:
    """An answer whose page, if it is one, has the title."""
    if not answer.headers.get("Content-Type", "").startswith("text/html"):
        return answer
    element = f"<title>{html.escape(title)}</title>".encode()
    body = re.sub(rb"<title>[^<]*</title>", lambda _: element, answer.body, count=1)
    headers = answer.headers.copy()
    del headers["Content-Length"]
    headers["Content-Length"] = str(len(body))
    return Response(answer.status_code, answer.reason_phrase, headers, body)
