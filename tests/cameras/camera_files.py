"""Camera files of several programs for the same cameras (test helper)."""

import json
import struct

import numpy as np

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
PARAMS = (70, 71, 33, 24)
MODELS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4, "OPENCV_FISHEYE": 5}
MODELS |= {"DIVISION": 13, "FISHEYE": 15, "EUCM": 16, "EQUIRECTANGULAR": 17}


def poses(count, seed=0, far=(0.0, 0.0, 0.0)):
    """Camera-to-world, OpenCV axes, wxyz quaternions beside them."""
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    quats *= np.sign(quats[:, :1])
    result = np.tile(np.eye(4), (count, 1, 1))
    for pose, (w, x, y, z) in zip(result, quats, strict=True):
        # Rodrigues' formula with the quaternion's vector part.
        k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        pose[:3, :3] = np.eye(3) + 2 * w * k + 2 * k @ k
        pose[:3, 3] = rng.normal(size=3) + far
    return result


def quaternion(rotation):
    """wxyz by the largest eigenvalue's vector of the classical 4 x 4 matrix."""
    m = rotation
    k = np.array(
        [
            [np.trace(m), m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0, 2 * m[0, 0] - np.trace(m), m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [0, 0, 2 * m[1, 1] - np.trace(m), m[1, 2] + m[2, 1]],
            [0, 0, 0, 2 * m[2, 2] - np.trace(m)],
        ]
    )
    return np.linalg.eigh(k, UPLO="U")[1][:, -1]


def _images(world_from_cam, names):
    for i, (pose, name) in enumerate(zip(world_from_cam, names, strict=True)):
        cam_from_world = np.linalg.inv(pose)
        yield i + 1, [*quaternion(cam_from_world[:3, :3]), *cam_from_world[:3, 3]], name


def write_colmap_text(
    folder, world_from_cam, names, size, model="PINHOLE", params=(70, 71, 33, 24)
):
    folder.mkdir(parents=True, exist_ok=True)
    values = " ".join(map(str, params))
    camera = f"# a comment\n7 {model} {size[1]} {size[0]} {values}\n"
    (folder / "cameras.txt").write_text(camera)
    rows = ["# a comment"]
    for number, numbers, name in _images(world_from_cam, names):
        rows += [" ".join([str(number), *(repr(float(x)) for x in numbers), "7", name]), "1 2 -1"]
        rows[-1] = rows[-1] if number % 2 else ""
    (folder / "images.txt").write_text("\n".join(rows) + "\n", "utf-8")


def write_colmap_binary(
    folder, world_from_cam, names, size, model="PINHOLE", params=(70, 71, 33, 24)
):
    folder.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<QiiQQ", 1, 7, MODELS[model], size[1], size[0])
    (folder / "cameras.bin").write_bytes(data + struct.pack(f"<{len(params)}d", *params))
    data = struct.pack("<Q", len(names))
    for number, numbers, name in _images(world_from_cam, names):
        data += struct.pack("<I7dI", number, *numbers, 7) + name.encode() + b"\0"
        data += struct.pack("<Q", number) + struct.pack("<ddq", 1.0, 2.0, -1) * number
    (folder / "images.bin").write_bytes(data)


def transforms(world_from_cam, names, **fields):
    """The content of a transforms.json."""
    frames = [
        {"file_path": name, "transform_matrix": (pose @ OPENGL).tolist()}
        for pose, name in zip(world_from_cam, names, strict=True)
    ]
    return {**fields, "frames": frames}


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path
