"""Binary glTF 2.0: colored points and textured camera frusta, y up.

glTF's frame is x right, y up, z toward the viewer: OpenCV's with y and z negated. A world that is
the reference camera's is turned so; that of known poses is kept, whichever way is up in it. Vertex
colors in glTF are linear, photographs are sRGB: they are converted, to floats so that dark tones
stay apart. Materials are unlit (``KHR_materials_unlit``), so photographs look as they are.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from mvdust3r_jax.export import frusta
from mvdust3r_jax.export.cloud import cloud
from mvdust3r_jax.export.posed_views import OPENGL_FROM_OPENCV, posed_views, view_colors
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Longest side of a frustum's picture.
TEXTURE_PX = 256
_POINTS, TRIANGLES = 0, 4
_COMPONENT = {"float32": 5126, "uint32": 5125}


def write_glb(path: str | Path, scene: SceneArrays) -> None:
    """Write the masked points, and one node per view with a pose, named like the view.

    Vertices of a world far from its origin are small, and the nodes moved to where they belong.
    """
    scene, origin = scene.recentered()
    turn = OPENGL_FROM_OPENCV if scene.world_is_reference else np.eye(4)
    glb = Builder(turn, turn[:3, :3] @ origin)
    points, colors, _ = cloud(scene)
    if len(points):
        glb.add_node("points", [glb.primitive(points, _POINTS, colors=colors)])
    views, depth = posed_views(scene).tolist(), frusta.frustum_depth(scene)
    pictures = view_colors(scene)
    for view in views:
        apex_and_corners = frusta.corners(scene, view, depth)
        vertices, faces = frusta.edges(apex_and_corners, depth)
        tint = np.tile(np.uint8(frusta.view_color(view, len(scene.names))), (len(vertices), 1))
        wires = glb.primitive(vertices, TRIANGLES, colors=tint, faces=faces)
        picture = glb.primitive(
            apex_and_corners[1:],
            TRIANGLES,
            faces=frusta.IMAGE_FACES,
            texture=_jpeg(pictures[view]),
        )
        glb.add_node(str(scene.names[view]), [wires, picture])
    with whole_file(path) as partial:
        partial.write_bytes(glb.tobytes())


def _jpeg(image: np.ndarray) -> bytes:
    """A uint8 picture, at most ``TEXTURE_PX`` wide and high, as JPEG."""
    picture = Image.fromarray(image)
    picture.thumbnail((TEXTURE_PX, TEXTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def linear_from_srgb(colors: np.ndarray) -> np.ndarray:
    """uint8 sRGB to linear light in [0, 1], float32 (IEC 61966-2-1)."""
    x = colors.astype(np.float64) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


class Builder:
    """Collects the binary buffer, in the frame ``file_from_world``, and the JSON about it.

    translation: of all nodes.
    """

    def __init__(self, file_from_world: np.ndarray, translation: np.ndarray) -> None:
        self.file_from_world, self.translation = file_from_world, translation
        self.parts: list[bytes] = []
        self.size = 0
        unlit = {"extensions": {"KHR_materials_unlit": {}}, "doubleSided": True}
        self.json: dict = {
            "asset": {"version": "2.0", "generator": "mvdust3r-jax"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "accessors": [],
            "bufferViews": [],
            "buffers": [],
            "materials": [unlit],
        }

    def _buffer_view(self, data: bytes) -> int:
        """Append bytes, padded to glTF's alignment of four."""
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        self.json["bufferViews"].append(view)
        data += bytes(-len(data) % 4)
        self.parts.append(data)
        self.size += len(data)
        return len(self.json["bufferViews"]) - 1

    def _accessor(self, array: np.ndarray, kind: str, **fields) -> int:
        view = self._buffer_view(np.ascontiguousarray(array).tobytes())
        component = _COMPONENT[array.dtype.name]
        fields |= {"componentType": component, "count": len(array), "type": kind}
        self.json["accessors"].append({"bufferView": view, **fields})
        return len(self.json["accessors"]) - 1

    def primitive(
        self,
        vertices: np.ndarray,
        mode: int,
        *,
        colors: np.ndarray | None = None,
        faces: np.ndarray | None = None,
        texture: bytes | None = None,
    ) -> dict:
        """A glTF primitive: world vertices [n, 3], uint8 sRGB colors [n, 3], faces [m, 3]."""
        turned = (vertices @ self.file_from_world[:3, :3].T).astype(np.float32)
        bounds = {"min": turned.min(axis=0).tolist(), "max": turned.max(axis=0).tolist()}
        attributes = {"POSITION": self._accessor(turned, "VEC3", **bounds)}
        primitive = {"attributes": attributes, "mode": mode, "material": 0}
        if colors is not None:
            attributes["COLOR_0"] = self._accessor(linear_from_srgb(colors), "VEC3")
        if faces is not None:
            primitive["indices"] = self._accessor(faces.astype(np.uint32).ravel(), "SCALAR")
        if texture is not None:
            attributes["TEXCOORD_0"] = self._accessor(frusta.CORNER_UV, "VEC2")
            primitive["material"] = self._textured_material(texture)
        return primitive

    def _textured_material(self, jpeg: bytes) -> int:
        images = self.json.setdefault("images", [])
        images.append({"bufferView": self._buffer_view(jpeg), "mimeType": "image/jpeg"})
        self.json.setdefault("textures", []).append({"source": len(images) - 1})
        base = {"baseColorTexture": {"index": len(images) - 1}, "metallicFactor": 0.0}
        self.json["materials"].append({**self.json["materials"][0], "pbrMetallicRoughness": base})
        return len(self.json["materials"]) - 1

    def add_node(self, name: str, primitives: list[dict]) -> None:
        """One mesh and the node that shows it."""
        self.json["meshes"].append({"name": name, "primitives": primitives})
        moved = {"translation": self.translation.tolist()} if self.translation.any() else {}
        node = {"name": name, "mesh": len(self.json["meshes"]) - 1, **moved}
        self.json["nodes"].append(node)
        self.json["scenes"][0]["nodes"].append(len(self.json["nodes"]) - 1)

    def tobytes(self) -> bytes:
        """The file: header, JSON chunk (padded with spaces), binary chunk."""
        # glTF allows no empty arrays: a scene without points and poses has a scene and no more.
        content = {key: value for key, value in self.json.items() if value != []}
        if self.size:
            content["buffers"] = [{"byteLength": self.size}]
        else:
            content["scenes"] = [{}]
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if self.size:
            chunks += struct.pack("<I4s", self.size, b"BIN\0") + b"".join(self.parts)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
