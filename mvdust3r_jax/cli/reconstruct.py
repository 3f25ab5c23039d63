"""``mvdust3r reconstruct``: photographs or a video in, a folder of results out."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from mvdust3r_jax.cameras.features import import_pycolmap
from mvdust3r_jax.cameras.known import KnownCameras, read_cameras
from mvdust3r_jax.cli import inputs
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.output_folder import check_inputs, check_output_folder
from mvdust3r_jax.cli.values import UsageError
from mvdust3r_jax.export.point_filter import Kept
from mvdust3r_jax.media.mask_files import masks_of
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.media.picture import Header
from mvdust3r_jax.models.window_plan import in_order
from mvdust3r_jax.reconstruction import machine, memory
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.reconstruction.scene_cameras import LENSES
from mvdust3r_jax.storage.results import parts_of, results_folder
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, Refinement

_GIB = 1 << 30
# No pixel of any photograph is brighter than this share of white: they were not exposed so.
_DARK = 1 / 8


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Reconstruct and write; nothing is written unless all of it is."""
    from mvdust3r_jax import export

    formats = inputs.export_formats(args.export)
    _check_together(args)
    if args.refine:
        import_pycolmap()
    own_names = [export.EXPORTERS[name].file_name for name in formats]
    check_output_folder(args.out, [SCENE_FILE, *own_names], args.keep_windows)
    sources = inputs.gather(args.inputs, args, console.say)
    given = [*map(Path, args.inputs), *(s for s in sources if isinstance(s, Path))]
    check_inputs(args.out, [*given, *(path for path in (args.cameras, args.masks) if path)])
    model = inputs.open_model(args, console)
    say_estimate(model, len(sources), args, console)
    say_views(model, len(sources), args.window, console)
    begin, before = time.perf_counter(), parts_of(args.out)
    with results_folder(args.out) as folder:
        scene = run_network(sources, model, args, console)
        warn_of_darkness(scene, console)
        if scene.pose_doubt:
            console.warn(f"the poses of --cameras contradict the photographs: {scene.pose_doubt}")
        kept = inputs.kept_points(scene, args, console)
        files = write_results(scene, sources, folder, formats, kept, console)
    seconds, peak = time.perf_counter() - begin, memory.peak_bytes()
    written = [args.out / path.relative_to(folder) for path in files]
    console.say("\n".join(f"wrote {path}" for path in written))
    if gone := sorted(before - parts_of(args.out)):
        console.say(f"removed what an earlier run had written: {', '.join(gone)}")
    console.say("\n".join(report(scene, seconds, peak)))
    console.say(f"next: mvdust3r view {shlex.quote(str(args.out))}")
    return summary(scene, written, kept) | {"total_seconds": round(seconds, 3), "peak_bytes": peak}


def warn_of_darkness(scene: Scene, console: Console) -> None:
    """Values of 10 or 12 bits in files of 16 are next to black, and look like nothing else."""
    brightest = float(scene.images_01[scene.masks].max(initial=0.0))
    if brightest < _DARK:
        console.warn(
            f"all photographs are almost black (at most {brightest:.0%} of white): values of 10 or "
            "12 bits in files of 16 must be spread over the whole range first"
        )


def report(scene: Scene, seconds: float, peak: int | None) -> list[str]:
    """Lines for people: cameras and their world, focal lengths, time and memory."""
    lost = [n for n, ok in zip(scene.names, scene.pose_ok, strict=True) if not ok]
    verb = "found" if scene.world_is_reference else "given"
    found = f"cameras of {len(scene.names) - len(lost)} of {len(scene.names)} photographs {verb}"
    if lost:
        found += f", none for {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}"
    world = "the world is that of the known poses"
    if scene.world_is_reference:
        world = f"the reference, whose camera is the world: {scene.names[scene.reference]}"
        if scene.reference_margin is not None:
            world += f", by {scene.reference_margin:.2g} of mean log confidence"
    focal = scene.original_intrinsics[:, 0, 0]
    low, high = float(focal.min()), float(focal.max())
    told = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    took = f"{seconds:.1f} s in all, {scene.timings.get('network', 0):.1f} s of it the network's"
    if peak is not None:
        took += f"; at most {peak / _GIB:.1f} GiB of memory"
    lines = [found, world, f"focal length {told} pixels of the files"]
    if scene.refinement is not None:
        lines.append(_refinement_line(scene.refinement))
    return [*lines, took]


def _refinement_line(told: Refinement) -> str:
    count = sum(told.refined)
    if not count:
        return f"cameras not refined: {told.why}"
    before, after = told.error_px
    return (
        f"cameras of {count} of {len(told.refined)} photographs refined on {told.tracks} matched "
        f"points: median error {before:.2f} px, then {after:.2f} px"
    )


def _check_together(args: argparse.Namespace) -> None:
    """UsageError for arguments of which one would be passed over without a word."""
    if args.use and args.cameras is None:
        raise UsageError(f"--use {args.use} says what to take from --cameras, which is not given")
    if args.focal and args.cameras and args.use != "poses":
        raise UsageError("--focal and the intrinsics of --cameras: give one, or add --use poses")
    if args.window is None and (args.keep_windows or args.window_by != "order"):
        given = "--keep-windows" if args.keep_windows else f"--window-by {args.window_by}"
        raise UsageError(f"{given} is about windows; --window says how many photographs each has")


def write_results(scene, sources, folder: Path, formats, kept, console: Console) -> list[Path]:
    """`scene.npz`, photographs that formats name but that are no files as they are, the formats."""
    from mvdust3r_jax import export
    from mvdust3r_jax.export import photographs

    console.step(f"write {SCENE_FILE}")
    files = [scene.save_arrays(folder / SCENE_FILE)]
    if photographs.are_needed(scene, sources, formats):
        console.writes(photographs.FOLDER)
        photographs.write_photographs(folder, scene, sources)
        files.append(folder / photographs.FOLDER)
    exporters = export.with_videos(progress=console.advance)
    files += export.write(scene, folder, formats, kept, exporters, console.writes, allow_empty=True)
    console.step("")
    return files


def say_estimate(model: Model, views: int, args: argparse.Namespace, console: Console) -> None:
    """What the run will take; MemoryLimitError if it does not fit."""
    height, width = args.size or model.image_size
    windows = in_order(views, args.window)
    at_once = len(windows[0])
    refs = min(args.refs, at_once) if model.config.cross_ref else 1
    limit = None if args.memory is None else int(args.memory * _GIB)
    needed = memory.check(model.config, at_once, refs, height, width, limit)
    rate = machine.flops_per_second(model.config.dtype)
    seconds = len(windows) * (1 + args.mirrored) * needed.seconds(rate)
    told = f" in {len(windows)} windows of {at_once}" if len(windows) > 1 else ""
    console.say(
        f"{views} views of {height}x{width}{told}: about {needed}{' each' if told else ''}; the "
        f"network takes about {max(seconds, 1):.0f} s once it is compiled"
    )
    console.expected = {"network": seconds}


def say_views(model: Model, views: int, window: int | None, console: Console) -> None:
    """That of more views than a network was trained on, windows are the better choice."""
    if model.views is not None and min(views, window or views) > model.views:
        console.say(
            f"{model.name} was trained on at most {model.views} views at once and places more of "
            f"them worse: --window {max(model.views // 2, 3)} joins windows of so many"
        )


def run_network(sources, model: Model, args: argparse.Namespace, console: Console) -> Scene:
    """The scene of the photographs, stage by stage on the console."""
    paths = [inputs.path_of(source) for source in sources]
    known = _known_cameras(args, sources, paths, console)
    scene = reconstruct(
        sources,
        model,
        reference=args.reference,
        num_refs=args.refs,
        mirrored=args.mirrored,
        window=args.window,
        window_by=args.window_by,
        kept_in=args.keep_windows,
        size=args.size,
        fit=args.fit,
        cameras=known,
        focal_px=args.focal,
        masks=None if args.masks is None else masks_of(args.masks, paths),
        progress=console.step,
        advance=console.advance,
        memory_limit=None if args.memory is None else int(args.memory * _GIB),
    )
    if args.refine:
        is_known = args.focal not in (None, *LENSES) or (known and known.intrinsics is not None)
        scene = _refined(scene, sources, bool(is_known), console)
    console.step("")
    return scene


def _refined(scene: Scene, sources, keep_focal: bool, console: Console) -> Scene:
    """`refine`; what stops pycolmap is told, and loses nothing of the network's answer."""
    from mvdust3r_jax.reconstruction.refine import refine

    try:
        return refine(scene, sources, keep_focal=keep_focal, progress=console.step)
    except RuntimeError as error:
        why = f"pycolmap stopped with {str(error).partition(chr(10))[0]!r}"
        none = [False] * len(scene.names)
        told = Refinement(refined=none, tracks=0, error_px=None, focal_factor=1.0, why=why)
        return dataclasses.replace(scene, refinement=told)


def _known_cameras(
    args: argparse.Namespace, sources, paths: list[str], console: Console
) -> KnownCameras | None:
    if args.cameras is None:
        return None
    headers = [Header("", s.original_size, 1) if isinstance(s, Photo) else None for s in sources]
    known = read_cameras(args.cameras, paths, args.use or "all", headers)
    if known.intrinsics is None and known.world_from_cam is None:
        raise ValueError("; ".join(known.left_out))
    if args.refine and known.world_from_cam is not None:
        raise UsageError("--refine would change the poses of --cameras: add --use intrinsics")
    for sentence in known.left_out:
        console.say(sentence)
    return known


def summary(scene: Scene, files: list[Path], kept: Kept) -> dict[str, Any]:
    """What ``--json`` prints."""
    confidence = scene.confidence[scene.masks]
    return {
        "files": [str(path) for path in files],
        "views": len(scene.names),
        "names": scene.names,
        "points": inputs.counted(kept),
        "poses_found": int(np.sum(scene.pose_ok)),
        "focal_px": [float(k[0, 0]) for k in scene.original_intrinsics],
        "mean_confidence": float(confidence.mean()) if confidence.size else None,
        "metric": scene.metric,
        "reference": scene.names[scene.reference],
        "reference_margin": scene.reference_margin,
        "pose_doubt": scene.pose_doubt,
        "refinement": scene.refinement and dataclasses.asdict(scene.refinement),
        "seconds": {name: round(value, 4) for name, value in scene.timings.items()},
    }
