"""`make demo`: eight photographs of a room that training never saw, by the network that ships.

    python -m tools.demo --out demo_out

Prints how far points and cameras are from the truth that ships beside the photographs: as the
network says; asked of the mirror images, too, and refined (`--mirrored --refine`); and of a flat
wall. Renders the two views that were held back; writes the cloud, the splats, a page, a video and
previews of the refined scene.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvdust3r_jax import Scene, load_model
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.baselines import constant_prediction
from mvdust3r_jax.evaluation.estimate import Estimate, add_poses
from mvdust3r_jax.metrics.images import psnr
from mvdust3r_jax.splat.pointmaps import with_room_for_all
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.training.progress_pictures import contact_sheet
from mvdust3r_jax.types import Batch, images_01_from, images_from_01, images_from_pixels

EXAMPLE = Path("examples/room")
WEIGHTS = Path("weights/room_mvd.safetensors")
REFINED = ("--mirrored", "--refine")
EXPORTS = "ply,glb,3dgs,cameras,preview,html,mp4"
# What is printed: number, words, factor.
ROWS = (
    ("nd", "points: ND, m (after the best scale and shift)", 1),
    ("similarity_error_m", "points: mean error after the best similarity, m", 1),
    ("rre_deg", "cameras: mean error of relative rotations, degrees", 1),
    ("rra15", "camera pairs turned right within 15 degrees, %", 100),
    ("rta15", "camera pairs displaced right within 15 degrees, %", 100),
    ("psnr_db", "the two held-back views, rendered: PSNR, dB", 1),
)


def read_truth(path: Path) -> Batch:
    """The truth as a batch of one."""
    with np.load(path) as arrays:
        return Batch(
            images=jnp.asarray(images_from_pixels(arrays["images"][None])),
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
    draw = partial(scores.novel_views, estimate, truth, sh_degree=0, max_scale=max_scale)
    rendered = with_room_for_all(lambda size: draw(capacity=size), scores.room_for(estimate))
    rendered = np.clip(images_01_from(np.asarray(rendered[0])), 0, 1)
    ours["psnr_db"] = float(psnr(jnp.asarray(rendered), jnp.asarray(held_back)).mean())
    return ours, baseline, np.concatenate([rendered, held_back])


def reconstructed(example: Path, weights: Path, folder: Path, *options: str) -> Scene:
    """The scene that `mvdust3r reconstruct` with these options has written."""
    command = f"-m mvdust3r_jax.cli reconstruct {example / 'photographs'} --weights {weights}"
    words = [*shlex.split(command), "--out", str(folder), *options]
    print(f"$ python {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, *words], check=False)
    if done.returncode:
        sys.exit(f"the demo stopped: the command ended with {done.returncode}")
    return Scene.load(folder)


def table(numbers: dict[str, dict[str, float]]) -> str:
    """`ROWS` of every result, one column each; what a result lacks stays empty."""
    lines = [f"{'against the truth':52s}" + "".join(f"{name:>10s}" for name in numbers)]
    for key, words, factor in ROWS:
        cells = (f"{factor * x[key]:10.2f}" if key in x else " " * 10 for x in numbers.values())
        lines.append(f"{words:52s}" + "".join(cells))
    return "\n".join(lines)


def write_new_views(path: Path, pictures: np.ndarray) -> None:
    """The rendered views over the true ones, `judge`'s pictures, at twice their size."""
    halves = np.split(images_from_01(pictures), 2)
    sheet = contact_sheet(dict(zip(("rendered", "truth"), halves, strict=True)))
    image = Image.fromarray(np.rint(255 * sheet).astype(np.uint8))
    image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)
    with whole_file(path) as partial:
        image.save(partial)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--example", type=Path, default=EXAMPLE)
    args = parser.parse_args()
    example, weights = args.example, args.weights
    truth, trained = read_truth(example / "truth.npz"), load_model(weights)
    if truth.images.shape[2:4] != trained.image_size:
        parser.error(
            f"{example}/truth.npz has {truth.images.shape[2:4]} pixels, {weights} was trained on "
            f"{trained.image_size}: make another example (python -m tools.make_example --help)"
        )
    scene = reconstructed(example, weights, args.out / "network", "--export", "preview")
    folder = args.out / "scene"
    refined = reconstructed(example, weights, folder, *REFINED, "--export", EXPORTS)

    numbers, pictures = {}, {}
    for name, found in (("network", scene), ("refined", refined)):
        numbers[name], wall, pictures[name] = judge(found, truth, trained.config.max_scale)
    print(f"\n{table(numbers | {'a wall': wall})}")
    if refined.gaussians is not None:
        write_new_views(args.out / "new_views.png", pictures["refined"])
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in refined.timings.items())
    print(f"\n{times}")
    print(f"Look at {folder / 'preview.png'} and {args.out / 'new_views.png'},")
    print(f"open {folder / 'scene.html'} in a browser, or run: mvdust3r view {folder}")


if __name__ == "__main__":
    main()
