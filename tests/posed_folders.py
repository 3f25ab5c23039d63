"""Writes one posed RGB-D scene in every layout that the builders read (test helper)."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np

from data.schema import encode_depth, encode_jpeg


class PosedScene:
    """``n`` views: images uint8 [n, H, W, 3], depth_m, world_from_cam, intrinsics [3, 3]."""

    def __init__(self, images, depth_m, world_from_cam, intrinsics):
        self.jpegs = [encode_jpeg(image) for image in images]
        self.depth_m = depth_m
        self.pngs = [encode_depth(depth) for depth in depth_m]
        self.poses, self.intrinsics = np.asarray(world_from_cam, np.float64), intrinsics
        self.size = images.shape[1:3]


def box_scene(num_views=14, size=(48, 64), seed=0):
    """A textured room of 4 x 3 x 5 m seen from its middle while turning: ray-cast in NumPy."""
    height, width = size
    rng = np.random.default_rng(seed)
    intrinsics = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    half = np.array([2.0, 1.5, 2.5])
    v, u = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    images, depths, poses = [], [], []
    for view in range(num_views):
        angle = 0.35 * view
        rotation = cv2.Rodrigues(np.array([0.1 * np.sin(view), angle, 0.0]))[0]
        origin = rng.uniform(-0.4, 0.4, 3)
        # The turn by 1e-3 about z keeps every ray off the axes, where the division would fail.
        rotation = rotation @ cv2.Rodrigues(np.array([1e-3, 0.0, 1e-3]))[0]
        world_rays = rays @ rotation.T
        # Distance along z: the ray's z component is 1 in the camera frame.
        reach = (np.sign(world_rays) * half - origin) / world_rays
        depth = reach.min(axis=-1)
        points = origin + world_rays * depth[..., None]
        images.append((127 + 120 * np.sin(4 * points)).astype(np.uint8))
        depths.append(depth)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, origin
        poses.append(pose)
    return PosedScene(np.stack(images), np.stack(depths), np.stack(poses), intrinsics)


def _text(path: Path, matrix) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(repr(float(x)) for x in row) for row in matrix) + "\n")


def _bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_seven_scenes(root: Path, scene: PosedScene, name="room") -> None:
    folder = root / name
    _text(folder / "camera-intrinsics.txt", scene.intrinsics)
    for i, pose in enumerate(scene.poses):
        _bytes(folder / f"frame-{i:06d}.color.jpg", scene.jpegs[i])
        _bytes(folder / f"frame-{i:06d}.depth.png", scene.pngs[i])
        _text(folder / f"frame-{i:06d}.pose.txt", pose)


def write_scannet(root: Path, scene: PosedScene, name="room") -> None:
    base = root / "scans" / name / "frames"
    padded = np.eye(4)
    padded[:3, :3] = scene.intrinsics
    _text(base / "intrinsic" / "intrinsic_depth.txt", padded)
    for i, pose in enumerate(scene.poses):
        _bytes(base / "color" / f"{i}.jpg", scene.jpegs[i])
        _bytes(base / "depth" / f"{i}.png", scene.pngs[i])
        _text(base / "pose" / f"{i}.txt", pose)


def write_scannetpp(root: Path, scene: PosedScene, name="room") -> None:
    base = root / name / "iphone"
    fx, fy, cx, cy = scene.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    height, width = scene.size
    camera = f"# one camera\n1 PINHOLE {width} {height} {fx} {fy} {cx + 0.5} {cy + 0.5}\n"
    _bytes(base / "colmap" / "cameras.txt", camera.encode())
    rows = ["# two rows an image"]
    for i, pose in enumerate(scene.poses):
        cam_from_world = np.linalg.inv(pose)
        numbers = [*_quaternion(cam_from_world[:3, :3]), *cam_from_world[:3, 3]]
        values = " ".join(repr(float(x)) for x in numbers)
        rows += [f"{i + 1} {values} 1 frame_{i:06d}.jpg", ""]
        _bytes(base / "rgb" / f"frame_{i:06d}.jpg", scene.jpegs[i])
        _bytes(base / "render_depth" / f"frame_{i:06d}.png", scene.pngs[i])
    _bytes(base / "colmap" / "images.txt", ("\n".join(rows) + "\n").encode())


def _quaternion(rotation):
    """wxyz by the exponential map's axis and angle (no rotation near 180 degrees is written)."""
    axis_angle = cv2.Rodrigues(rotation)[0][:, 0]
    angle = np.linalg.norm(axis_angle)
    axis = axis_angle / max(angle, 1e-12)
    return [np.cos(angle / 2), *(np.sin(angle / 2) * axis)]


def write_plain(root: Path, scene: PosedScene, name="room") -> None:
    _text(root / name / "intrinsics.txt", scene.intrinsics)
    for i, pose in enumerate(scene.poses):
        _bytes(root / name / "rgb" / f"{i:04d}.jpg", scene.jpegs[i])
        _bytes(root / name / "depth" / f"{i:04d}.png", scene.pngs[i])
        _text(root / name / "pose" / f"{i:04d}.txt", pose)


WRITERS = {
    "7scenes": write_seven_scenes,
    "scannet": write_scannet,
    "scannetpp": write_scannetpp,
    "plain": write_plain,
}


def write_h5(path: Path, entries: list[dict]) -> None:
    texts = [json.dumps(entry).encode() for entry in entries]
    with h5py.File(path, "w") as stored:
        stored["json_strs"] = np.array(texts, dtype=f"S{max(map(len, texts))}")


def released_entry(scene: PosedScene, frames, *, raw=True, prefix="/elsewhere/data/scans/room"):
    """One trajectory over a folder written by ``write_scannet``, with paths of another machine."""
    base = f"{prefix}/frames"
    entry = {
        "scene_name": "room",
        "rgb_list": [f"{base}/color/{i}.jpg" for i in frames],
        "depth_list": [f"{base}/depth/{i}.png" for i in frames],
    }
    if raw:
        entry["pose_raw_list"] = [scene.poses[i].tolist() for i in frames]
        entry["intrinsic_raw"] = np.asarray(scene.intrinsics).tolist()
    else:
        entry["pose_list"] = [f"{base}/pose/{i}.txt" for i in frames]
        entry["intrinsic_list"] = [f"{base}/intrinsic/intrinsic_depth.txt"] * len(frames)
    return entry
