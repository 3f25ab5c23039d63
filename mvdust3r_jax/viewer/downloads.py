"""What the viewer gives away: the shown part of a scene as a file of any of the formats."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import viser

from mvdust3r_jax import export
from mvdust3r_jax.export import photographs
from mvdust3r_jax.export.point_filter import Kept
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, SceneArrays


class Offer(NamedTuple):
    """A button: what it says, the formats it writes, the file's ending ("" for the format's)."""

    label: str
    formats: tuple[str, ...]
    name: str


OFFERS = (
    Offer("Points (PLY)", ("ply",), "points.ply"),
    Offer("Points and cameras (GLB)", ("glb",), "scene.glb"),
    Offer("Gaussians (3DGS PLY)", ("3dgs",), "gaussians.ply"),
    Offer("COLMAP (zip)", ("colmap",), "colmap.zip"),
    Offer("Surface (zip)", ("mesh",), "mesh.zip"),
    Offer("Whole scene (zip)", ("npz", "ply", "glb", "cameras", "preview"), "scene.zip"),
)


def packed(scene: SceneArrays, mask, offer: Offer, sources: Sequence[Path] | None = None) -> bytes:
    """The file's content: of one written file as it is, of more or of a folder a zip.

    mask: [V, H, W], the pixels that are written. sources: the photographs, where they are at hand;
    a COLMAP folder then holds them. The whole scene has `scene.npz`, which ``view`` reads.
    """
    with tempfile.TemporaryDirectory(prefix="mvdust3r-") as name:
        folder = Path(name)
        if sources and photographs.are_needed(scene, sources, offer.formats):
            photographs.write_photographs(folder, scene, sources)
        files = export.write(scene, folder, offer.formats, Kept(mask, {}))
        if len(files) == 1 and files[0].is_file():
            return files[0].read_bytes()
        if "npz" in offer.formats:
            scene.save_arrays(folder / SCENE_FILE)
            files = [folder / SCENE_FILE, *(f for f in files if f.suffix != ".npz")]
        return _zipped(folder, files)


def _zipped(folder: Path, paths: Sequence[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
    return buffer.getvalue()


class DownloadPanel:
    """Adds the buttons; ``shown`` gives the scene in its own world and the mask that is shown."""

    def __init__(
        self,
        server: viser.ViserServer,
        shown: Callable[[], tuple[SceneArrays, object]],
        sources: Sequence[Path] | None,
    ) -> None:
        self._shown, self._sources = shown, sources
        with server.gui.add_folder("Download", expand_by_default=False):
            server.gui.add_markdown("What is shown: above the confidence, inside the box.")
            self.buttons = {offer.name: server.gui.add_button(offer.label) for offer in OFFERS}
            self.text = server.gui.add_markdown("")
        for offer in OFFERS:
            self.buttons[offer.name].on_click(
                lambda event, offer=offer: self._send(event.client, offer)
            )

    def _send(self, client: viser.ClientHandle | None, offer: Offer) -> None:
        if client is None:
            return
        button = self.buttons[offer.name]
        button.disabled, self.text.content = True, f"Writing {offer.name} ..."
        try:
            scene, mask = self._shown()
            client.send_file_download(
                offer.name, packed(scene, mask, offer, self._sources), save_immediately=True
            )
            self.text.content = f"{offer.name} was sent."
        # Whatever goes wrong is the browser's to hear of; the server goes on.
        except Exception as error:
            self.text.content = f"{offer.name}: {error}"
        finally:
            button.disabled = False
