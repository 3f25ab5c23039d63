"""What several commands share: photographs from arguments, weights, the compilation cache."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.values import UsageError
from mvdust3r_jax.export.point_filter import Kept, NoPointsError, PointFilter, keep
from mvdust3r_jax.media import names, photographs, video_frames
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import read_header
from mvdust3r_jax.reconstruction.model import Model, load_model
from mvdust3r_jax.reconstruction.programs import keep_programs
from mvdust3r_jax.storage.places import local_path
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.weights.places import SHIPPED, find_weights

_ABOUT_SHIPPED = (
    "this network has seen generated rooms only; for photographs of the world take the "
    "published one: --weights MVDp_s2 (for non-commercial use)"
)


def kept_points(scene: SceneArrays, args: argparse.Namespace, console: Console) -> Kept:
    """The points of these arguments; says how many, and NoPointsError if there are none.

    With ``--allow-empty`` that is a warning.
    """
    wanted = PointFilter(args.drop, args.min_confidence, args.consistent, args.far, args.max_points)
    kept = keep(scene, wanted)
    if kept.count:
        console.say(str(kept))
    elif args.allow_empty:
        console.warn(f"no point is left: {kept}")
    else:
        error = NoPointsError(f"no point is left: {kept}")
        error.add_note("ask for less (--min-confidence, --drop), or take it with --allow-empty")
        raise error
    return kept


def counted(kept: Kept) -> dict[str, Any]:
    """What ``--json`` tells of the points."""
    return {"pixels": kept.mask.size, "kept": kept.count, "dropped": kept.dropped}


def export_formats(text: str) -> list[str]:
    """Names between commas, of formats that can be written; UsageError for an unknown one."""
    from mvdust3r_jax import export

    formats = [name.strip() for name in text.split(",") if name.strip()]
    try:
        export.check(formats)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return formats


def gather(
    inputs: Sequence[str], args: argparse.Namespace, say: Callable[[str], None] = lambda text: None
) -> list[Path | photographs.Photo]:
    """Files of the given files and folders, and frames of the given videos, in order.

    say: is told what is passed over, or fewer than was asked for.

    Raises:
      ValueError: fewer than two, or one that is no photograph. FileNotFoundError: naming the one
      that is not there.
    """
    found: list[Path | photographs.Photo] = []
    for text in inputs:
        path = local_path(text)
        if not path.exists():
            if path.is_symlink():
                raise FileNotFoundError(
                    f"{text!r} is a link to {path.readlink()}, which is missing"
                )
            raise FileNotFoundError(f"there is no file or folder {text!r}")
        if path.is_dir():
            found += _folder(path, say)
        elif video_frames.is_video(path):
            found += _frames(path, args, say)
        else:
            found.append(path)
    for path in found:
        # What cannot be read is told before the network is loaded and compiled.
        if not isinstance(path, photographs.Photo):
            read_header(path)
    if args.max_views and len(found) > args.max_views:
        found = [found[i] for i in video_frames.choose_even(len(found), args.max_views)]
    if len(found) < 2:
        raise ValueError(f"at least 2 photographs are needed, got {len(found)}")
    return found


def _folder(path: Path, say: Callable[[str], None]) -> list[Path]:
    videos = [entry for entry in path.iterdir() if video_frames.is_video(entry)]
    videos = sorted(videos, key=lambda entry: names.natural_key(entry.name))
    try:
        found = photographs.list_images(path)
    except ImageError as error:
        if videos:
            error.add_note(f"it holds videos: give one by its name, such as {videos[0]}")
        raise
    for sentence in photographs.passed_over(path):
        say(sentence)
    if videos:
        count = "1 video" if len(videos) == 1 else f"{len(videos)} videos"
        say(f"passed over in {path}: {count} (give them by their names)")
    return found


def _frames(path: Path, args: argparse.Namespace, say: Callable[[str], None]):
    frames = video_frames.read_frames(path, args.frames, args.frame_choice)
    if len(frames) < args.frames:
        say(f"{path} has {len(frames)} frames; all are taken, where {args.frames} were wanted")
    return frames


def path_of(source: Path | photographs.Photo) -> str:
    """Where a photograph lies, as cameras and masks are found for it; the name of a frame."""
    return source.name if isinstance(source, photographs.Photo) else str(source.absolute())


def open_model(args: argparse.Namespace, console: Console) -> Model:
    """The model of ``--weights``; also switches the compilation cache on."""
    use_compilation_cache(console)
    try:
        path = find_weights(args.weights, console.say)
    except FileNotFoundError as error:
        error.add_note("give a file with --weights, or set MVDUST3R_WEIGHTS")
        raise
    if args.weights in SHIPPED:
        console.say(_ABOUT_SHIPPED)
    with console.stage(f"weights {args.weights}"):
        return load_model(path, args.dtype, args.ignore_objects)


def use_compilation_cache(console: Console) -> None:
    """Keep programs in the user's cache folder, unless JAX was told another one."""
    keep_programs(console.say)
