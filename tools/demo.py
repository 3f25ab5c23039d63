"""`make demo`: eight photographs of a room that training never saw, by the small network.

    python -m tools.demo --out demo_out

Prints how far points and cameras are from the truth that ships beside the photographs, beside the
same numbers of a flat wall; renders the two views that were held back; writes the cloud, the
splats, a page, a video and previews.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvdust3r_jax import Scene
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.baselines import constant_prediction
from mvdust3r_jax.evaluation.estimate import Estimate, add_poses
from mvdust3r_jax.metrics.images import psnr
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.training.progress_pictures import contact_sheet
from mvdust3r_jax.types import Batch, images_01_from, images_from_01
from mvdust3r_jax.weights.files import load_weights

EXAMPLE = Path("examples/room")
WEIGHTS = Path("weights/small.safetensors")
EXPORTS = "ply,glb,3dgs,cameras,preview,html,mp4"
# What is printed: number, words, factor.
ROWS = (
    ("nd", "points: ND, m (after the best scale and shift)", 1),
    ("similarity_error_m", "points: mean error after the best similarity, m", 1),
    ("rre_deg", "cameras: mean error of relative rotations, degrees", 1),
    ("rra15", "camera pairs turned right within 15 degrees, %", 100),
    ("rta15", "camera pairs displaced right within 15 degrees, %", 100),
)


def read_truth(path: Path) -> Batch:
    """The truth as a batch of one."""
    with np.load(path) as arrays:
        return Batch(
            images=jnp.asarray(arrays["images"][None] / 127.5 - 1, jnp.float32),
            **{
                n: jnp.asarray(arrays[n][None]) for n in ("depth_m", "world_from_cam", "intrinsics")
            },
        )


def estimate_of(scene: Scene) -> Estimate:
    """The reconstruction as evaluation takes it; its world is the reference view's camera."""

    def batched(tree):
        return jax.tree.map(lambda x: jnp.asarray(x)[None], tree)

    return Estimate(
        points=batched(scene.points),
        confidence=batched(scene.confidence),
        gaussians=batched(scene.gaussians),
        reference=jnp.array([scene.reference], jnp.int32),
        focal_px=jnp.asarray(scene.intrinsics[:1, 0, 0]),
        ref_from_cam=batched(scene.world_from_cam),
        pose_ok=batched(scene.pose_ok),
    )


def judge(scene: Scene, truth: Batch, max_scale: float) -> tuple[dict, dict, np.ndarray]:
    """Numbers of the reconstruction and of a flat wall, and held-back views [2 T, H, W, 3].

    The pictures are the rendered ones, then the true ones, in [0, 1]. Both results have ``psnr_db``
    where there are Gaussians.
    """
    views = len(scene.points)
    wall = constant_prediction(truth, views)
    wall = add_poses(wall, truth, jnp.zeros(1, jnp.int32))
    score = jax.jit(scores.score)
    estimate = estimate_of(scene)
    ours, baseline = (
        {name: float(x[0]) for name, x in score(e, truth).items()} for e in (estimate, wall)
    )
    held_back = images_01_from(np.asarray(truth.images[0, views:]))
    if scene.gaussians is None:
        return ours, baseline, held_back
    rendered = scores.novel_views(estimate, truth, sh_degree=0, max_scale=max_scale)
    rendered = np.clip(images_01_from(np.asarray(rendered[0])), 0, 1)
    ours["psnr_db"] = float(psnr(jnp.asarray(rendered), jnp.asarray(held_back)).mean())
    return ours, baseline, np.concatenate([rendered, held_back])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--example", type=Path, default=EXAMPLE)
    args = parser.parse_args()
    folder = args.out / "scene"
    command = (
        f"-m mvdust3r_jax.cli reconstruct {args.example / 'photographs'} "
        f"--weights {args.weights} --out {folder} --export {EXPORTS}"
    )
    print(f"$ python {command}", flush=True)
    done = subprocess.run([sys.executable, *shlex.split(command)], check=False)
    if done.returncode:
        sys.exit(f"the demo stopped: the command ended with {done.returncode}")

    scene, truth = Scene.load(folder), read_truth(args.example / "truth.npz")
    ours, wall, pictures = judge(scene, truth, load_weights(args.weights)[0].max_scale)
    print(f"\n{'against the truth':52s}{'network':>9s}{'a wall':>9s}")
    for name, words, factor in ROWS:
        print(f"{words:52s}{factor * ours[name]:9.2f}{factor * wall[name]:9.2f}")
    if "psnr_db" in ours:
        print(f"{'the two held-back views, rendered: PSNR, dB':52s}{ours['psnr_db']:9.2f}")
        sheet = contact_sheet(
            dict(zip(("rendered", "truth"), np.split(images_from_01(pictures), 2), strict=True))
        )
        with whole_file(args.out / "new_views.png") as partial:
            Image.fromarray(np.rint(255 * sheet).astype(np.uint8)).resize(
                (4 * sheet.shape[1], 4 * sheet.shape[0]), Image.Resampling.NEAREST
            ).save(partial)
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in scene.timings.items())
    print(f"\n{times}")
    print(f"Look at {folder / 'preview.png'} and {args.out / 'new_views.png'},")
    print(f"open {folder / 'scene.html'} in a browser, or run: mvdust3r view {folder}")


if __name__ == "__main__":
    main()
