"""Starting and stopping the viewer: a viser server, and the drop page in front of it.

Both listen on 127.0.0.1 unless another host is asked for. viser serves its own page and the
scene that it is given; no folder of this machine is reachable through either server.
"""

from __future__ import annotations

import contextlib
import errno
import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import viser

from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.viewer.guard import check_address, guarded
from mvdust3r_jax.viewer.requests import Limits
from mvdust3r_jax.viewer.scene_view import SceneView
from mvdust3r_jax.viewer.session import Reconstruct, Session
from mvdust3r_jax.viewer.uploads import LOOPBACK, UploadServer, url_host

DEFAULT_PORT = 8080
# Title of the page where the scene has no name.
UNNAMED = "mvdust3r"
# From the wanted one on; the viewer itself, which starts first, may hold the one after it.
_PORTS_TRIED = 100
_PORTS = 1 << 16


class Viewer:
    """A running viewer. ``url`` is what to open; `close` (or leaving ``with``) stops it.

    scenes: by their names, the first is shown at once (or one scene, or None to wait for
    photographs). reconstruct: what to do with
    photographs that are dropped on the page; without it there is no drop page. port: the next
    free one is taken if it is in use; 0 takes any. AddressError where it cannot listen.
    """

    def __init__(
        self,
        scenes: Mapping[str, SceneArrays] | SceneArrays | None = None,
        *,
        reconstruct: Reconstruct | None = None,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        limits: Limits | None = None,
    ) -> None:
        if isinstance(scenes, SceneArrays):
            scenes = {UNNAMED: scenes}
        if not scenes and reconstruct is None:
            raise ValueError("a viewer needs a scene, or a way to reconstruct one")
        check_address(host, port)
        self.host = host
        self.uploads: UploadServer | None = None
        self.view: SceneView | None = None
        # Above the drop page's; behind the last port, any.
        first = (port + 1) % _PORTS if reconstruct is not None and port else port
        # viser looks for the next free port by itself, and prints a banner with an address that
        # is not the one to open here.
        with contextlib.redirect_stdout(io.StringIO()), guarded(host, self._title):
            self.server = viser.ViserServer(host=host, port=first, label=UNNAMED, verbose=False)
        try:
            self.view = SceneView(self.server)
            if scenes:
                self.view.offer(scenes)
            if reconstruct is not None:
                session = Session(reconstruct, self._show_upload, limits or Limits())
                self.uploads = _first_free(session, host, port, self.server.get_port())
        except BaseException:
            self.server.stop()
            raise

    @property
    def url(self) -> str:
        """Address of the page for a browser on this machine."""
        port = self.uploads.port if self.uploads else self.server.get_port()
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{url_host(host)}:{port}"

    @property
    def local_only(self) -> bool:
        """Whether only programs on this machine can reach the viewer."""
        return self.host in LOOPBACK

    def _show_upload(self, scene: SceneArrays, sources: Sequence[Path] | None) -> None:
        more = f" and {len(scene.names) - 1} more" if len(scene.names) > 1 else ""
        self.view.offer({f"{scene.names[0]}{more}": scene}, sources)

    def _title(self) -> str:
        return self.view.title if self.view and self.view.title else UNNAMED

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()

    def close(self) -> None:
        """Stop both servers and remove uploaded photographs."""
        if self.uploads is not None:
            self.uploads.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _first_free(session: Session, host: str, port: int, viewer_port: int) -> UploadServer:
    """The drop page on ``port``, or on the next one that is free."""
    for candidate in range(port, min(port + _PORTS_TRIED, _PORTS) if port else 1):
        try:
            return UploadServer(session, host, candidate, viewer_port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"ports {port} to {candidate} are all in use", host)
