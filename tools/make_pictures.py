"""The pictures of the viewer, the page and the videos in ``docs/images``.

    python -m tools.make_pictures                              # a generated room, exact geometry
    python -m tools.make_pictures --scene DIR --prefix small_  # what a network made of one

DIR is a folder of ``mvdust3r reconstruct``. Takes Chromium and playwright-core (`tools.browser`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvdust3r_jax.export.camera_paths import fly_through, orbit
from mvdust3r_jax.export.drawing import render_path
from mvdust3r_jax.export.html import write_html
from mvdust3r_jax.geometry.camera import depth_to_world
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.types import images_01_from
from mvdust3r_jax.viewer import Viewer
from tools.browser import drive

OUT = Path("docs/images")
_VIEWS, _SIZE, _SEED = 6, (168, 224), 3
_JPEG_QUALITY = 85


def room_scene() -> Scene:
    """A generated room with exact points and cameras; stand-in confidence, no Gaussians."""
    from data.rooms import sample_batch

    batch = sample_batch(jnp.array([_SEED]), _VIEWS, 0, *_SIZE, baseline=1.0)
    world = np.linalg.inv(np.asarray(batch.world_from_cam[0, 0]))
    points = np.asarray(depth_to_world(batch.depth_m, batch.intrinsics, batch.world_from_cam))[0]
    depth, intrinsics = np.asarray(batch.depth_m[0]), np.asarray(batch.intrinsics[0])
    return Scene(
        images_01=images_01_from(np.asarray(batch.images[0])),
        points=(points @ world[:3, :3].T + world[:3, 3]).astype(np.float32),
        confidence=(1 + 9 * np.exp(-depth / 4)).astype(np.float32),
        gaussians=None,
        world_from_cam=(world @ np.asarray(batch.world_from_cam[0])).astype(np.float32),
        pose_ok=np.ones(_VIEWS, bool),
        intrinsics=intrinsics,
        original_intrinsics=intrinsics,
        original_sizes=np.tile(_SIZE, (_VIEWS, 1)),
        names=[f"room_{i}.png" for i in range(_VIEWS)],
        masks=depth > 0,
    )


def viewer_pictures(scene: Scene, folder: Path) -> None:
    """Points with cameras, and Gaussians from the first camera."""
    with Viewer(scene, port=0) as viewer:
        script = f"""
await page.goto("{viewer.url}/");
await page.getByText("points").first().waitFor({{timeout: 60000}});
await page.waitForTimeout(6000);
// Where the browser draws without a graphics card, viser says so over the scene.
await page.locator(".mantine-Notification-closeButton").click({{timeout: 3000}}).catch(() => {{}});
await page.waitForTimeout(1000);
await page.screenshot({{path: "{folder}/viewer_points.png"}});
await page.getByLabel("Cameras").evaluate((box) => box.click());
await page.getByLabel("Gaussians").evaluate((box) => box.click());
await page.getByText("Fly to this view").click();
await page.waitForTimeout(15000);
await page.screenshot({{path: "{folder}/viewer_gaussians.png"}});
"""
        drive(script, folder, size=(1000, 640), timeout_s=300)


def page_picture(scene: Scene, folder: Path) -> None:
    """The exported page."""
    write_html(folder / "scene.html", scene)
    script = f"""
await page.goto("file://{folder}/scene.html");
await page.waitForTimeout(3000);
await page.screenshot({{path: "{folder}/html_page.png"}});
"""
    drive(script, folder, size=(900, 1012), timeout_s=300)


def video_picture(scene: Scene, folder: Path) -> None:
    """Three frames of the orbit over three of the flight."""
    rows = []
    for poses in (orbit(scene, 3), fly_through(scene, 8)):
        chosen = poses[np.linspace(0, len(poses) - 1, 3).astype(int)]
        rows.append(np.concatenate(list(render_path(scene, chosen, 320)), axis=1))
    Image.fromarray(np.concatenate(rows)).save(folder / "video_frames.png")


def main() -> None:
    """Make all, as JPEG files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", type=Path, metavar="DIR", help="default: a generated room")
    parser.add_argument("--prefix", default="", help="of the files' names")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    args = parser.parse_args()
    scene = Scene.load(args.scene) if args.scene else room_scene()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for make in (video_picture, page_picture, viewer_pictures):
            make(scene, folder)
        for path in sorted(folder.glob("*.png")):
            target = args.out / f"{args.prefix}{path.stem}.jpg"
            Image.open(path).convert("RGB").save(target, quality=_JPEG_QUALITY)
            print(f"wrote {target}")


if __name__ == "__main__":
    main()
