"""``mvdust3r reconstruct``: photographs or a video in, a folder of results out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from mvdust3r_jax.cameras.known import USES, KnownCameras, read_cameras
from mvdust3r_jax.cli import inputs
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.media.picture import SUFFIXES, ImageError
from mvdust3r_jax.reconstruction import memory
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE

HELP = "photographs, a folder or a video to points, cameras and Gaussians"
EXAMPLES = (
    "mvdust3r reconstruct photos/ --out scene",
    "mvdust3r reconstruct a.jpg b.jpg c.jpg --out scene --weights MVDp_s2.pth",
    "mvdust3r reconstruct walk.mp4 --frames 16 --out scene --export ply,colmap,3dgs",
    "mvdust3r reconstruct photos/ --out scene --cameras transforms.json",
)
DEFAULT_EXPORTS = "ply,glb,cameras,preview"
_GIB = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IMAGES|FOLDER|VIDEO", help="at least two views"
    )
    parser.add_argument("--out", "-o", required=True, type=Path, metavar="DIR", help="for results")
    inputs.add_photo_arguments(parser)
    inputs.add_model_arguments(parser)
    known = parser.add_argument_group("what is known")
    known.add_argument(
        "--focal", metavar="PX|exif", help="focal length in pixels of the files, or from EXIF"
    )
    known.add_argument(
        "--cameras", type=Path, metavar="FILE", help="cameras.json or nerfstudio transforms.json"
    )
    known.add_argument(
        "--use",
        choices=USES,
        default="all",
        help="what to take from --cameras; poses make the scale metric (default: %(default)s)",
    )
    known.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="masks of the same names; black is left out",
    )
    result = parser.add_argument_group("results")
    result.add_argument(
        "--export", default=DEFAULT_EXPORTS, metavar="F,F", help="formats (default: %(default)s)"
    )
    result.add_argument("--min-confidence", type=float, default=0.0, metavar="C")
    result.add_argument(
        "--drop", type=float, default=0.1, metavar="SHARE", help="least confident (default: 0.1)"
    )
    result.add_argument("--max-points", type=inputs.positive, metavar="N")
    result.add_argument(
        "--consistent", action="store_true", help="drop points that other views see through"
    )
    parser.add_argument("--memory", type=float, metavar="GIB", help="limit (default: what is free)")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Reconstruct and write; nothing is written unless all of it is."""
    from mvdust3r_jax import export
    from mvdust3r_jax.export import photographs
    from mvdust3r_jax.storage.atomic import whole_folder

    formats = [name.strip() for name in args.export.split(",") if name.strip()]
    export.check(formats)
    points = export.PointFilter(args.min_confidence, args.drop, args.consistent, args.max_points)
    own_names = {photographs.FOLDER, *(e.file_name for e in export.EXPORTERS.values())}
    check_output_folder(args.out, SCENE_FILE, own_names)
    sources = inputs.gather(args.inputs, args, console.say)
    model = inputs.open_model(args, console)
    say_estimate(model, len(sources), args, console)
    with whole_folder(args.out) as folder:
        scene = run_network(sources, model, args, console)
        files = write_results(scene, sources, folder, formats, points, console)
    lost = [n for n, ok in zip(scene.names, scene.pose_ok, strict=True) if not ok]
    if lost:
        console.say(f"no pose was found for {len(lost)} views: {', '.join(lost[:5])}")
    written = [args.out / path.relative_to(folder) for path in files]
    console.say("\n".join(f"wrote {path}" for path in written))
    return summary(scene, written)


def write_results(scene, sources, folder: Path, formats, points, console: Console) -> list[Path]:
    """`scene.npz`, photographs that formats name but that are no files as they are, the formats."""
    from mvdust3r_jax import export
    from mvdust3r_jax.export import photographs

    console.step(f"write {SCENE_FILE}")
    files = [scene.save_arrays(folder / SCENE_FILE)]
    named = set(formats) & set(photographs.FORMATS)
    if named and not photographs.serve_as_they_are(scene, sources):
        console.step(f"write {photographs.FOLDER}")
        photographs.write_photographs(folder, scene, sources)
        files.append(folder / photographs.FOLDER)
    told = lambda name: console.step(f"write {name}")  # noqa: E731
    exporters = export.with_videos(progress=console.advance)
    files += export.write(scene, folder, formats, points, exporters, told)
    console.step("")
    return files


def check_output_folder(folder: Path, marker: str, own_names: set[str]) -> None:
    """ValueError if the folder holds anything but an earlier run's results.

    Every run writes ``marker``; what has other own names may be anybody's where that is missing.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out names a folder")
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    foreign = sorted(present - own_names - {marker} if marker in present else present)
    if foreign:
        raise ValueError(
            f"{folder} holds other things ({', '.join(foreign[:3])}); choose an empty or new folder"
        )


def say_estimate(model: Model, views: int, args: argparse.Namespace, console: Console) -> None:
    """What the run will take; MemoryLimitError if it does not fit."""
    height, width = args.size or model.image_size
    refs = min(args.refs, views) if model.config.cross_ref else 1
    limit = None if args.memory is None else int(args.memory * _GIB)
    needed = memory.check(model.config, views, refs, height, width, limit)
    rate = memory.measured_flops_per_second(model.config.dtype)
    console.say(
        f"{views} views of {height}x{width}: about {needed}; the network takes about "
        f"{max(needed.seconds(rate), 1):.0f} s once it is compiled"
    )
    console.expected = {"network": needed.seconds(rate)}


def run_network(sources, model: Model, args: argparse.Namespace, console: Console) -> Scene:
    """The scene of the photographs, stage by stage on the console."""
    paths = [inputs.path_of(source) for source in sources]
    scene = reconstruct(
        sources,
        model,
        num_refs=args.refs,
        size=args.size,
        fit=args.fit,
        cameras=_known_cameras(args, paths, console),
        focal_px=_focal(args.focal),
        masks=None if args.masks is None else _masks_of(args.masks, paths),
        progress=console.step,
        memory_limit=None if args.memory is None else int(args.memory * _GIB),
    )
    console.step("")
    scene.names = inputs.unique_names(sources)
    return scene


def _known_cameras(
    args: argparse.Namespace, paths: list[str], console: Console
) -> KnownCameras | None:
    if args.cameras is None:
        return None
    known = read_cameras(args.cameras, paths, args.use)
    if known.intrinsics is None and known.world_from_cam is None:
        raise ValueError("; ".join(known.left_out))
    for sentence in known.left_out:
        console.say(sentence)
    return known


def _focal(text: str | None) -> float | str | None:
    if text is None or text == "exif":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--focal takes a number of pixels or 'exif', got {text!r}") from None


def _masks_of(folder: Path, paths: list[str]) -> list[Path]:
    """One mask per photograph; ImageError where two different photographs have the same."""
    masks = [_mask_of(folder, Path(path)) for path in paths]
    owners: dict[Path, str] = {}
    for mask, path in zip(masks, paths, strict=True):
        if owners.setdefault(mask, path) != path:
            raise ImageError(f"{mask} is the mask of both {owners[mask]} and {path}")
    return masks


def _mask_of(folder: Path, photo: Path) -> Path:
    """The mask that shares the longest end of the photograph's path, whatever its ending."""
    for depth in range(len(photo.parts)):
        place = folder.joinpath(*photo.parts[1 + depth : -1])
        if not place.is_dir():
            continue
        images = [p for p in sorted(place.iterdir()) if p.suffix.lower() in SUFFIXES]
        found = [p for p in images if photo.name in (p.name, p.stem)]
        found = found or [p for p in images if p.stem == photo.stem]
        if len(found) > 1:
            raise ImageError(f"the mask of {photo.name} may be {found[0]} or {found[1]}")
        if found:
            return found[0]
    raise ImageError(f"there is no mask for {photo.name} in {folder}")


def summary(scene: Scene, files: list[Path]) -> dict[str, Any]:
    """What ``--json`` prints."""
    confidence = scene.confidence[scene.masks]
    return {
        "files": [str(path) for path in files],
        "views": len(scene.names),
        "names": scene.names,
        "poses_found": int(np.sum(scene.pose_ok)),
        "focal_px": [float(k[0, 0]) for k in scene.original_intrinsics],
        "mean_confidence": float(confidence.mean()) if confidence.size else None,
        "metric": scene.metric,
        "seconds": {name: round(value, 4) for name, value in scene.timings.items()},
    }
