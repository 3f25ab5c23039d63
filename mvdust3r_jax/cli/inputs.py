"""What several commands share: photographs from arguments, weights, the compilation cache."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.export.point_filter import Kept, NoPointsError, PointFilter, keep
from mvdust3r_jax.media import names, photographs, video_frames
from mvdust3r_jax.media.fitting import FITS
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import read_header
from mvdust3r_jax.reconstruction.model import Model, load_model
from mvdust3r_jax.reconstruction.reconstruct import DEFAULT_REFS
from mvdust3r_jax.storage.scene_arrays import SceneArrays
from mvdust3r_jax.weights.hub import PUBLISHED
from mvdust3r_jax.weights.places import SMALL, find_weights

DEFAULT_WEIGHTS = os.environ.get("MVDUST3R_WEIGHTS", SMALL)
DEFAULT_FRAMES = 12
_ABOUT_SMALL = (
    "the small network has seen generated rooms only; for photographs of the world take the "
    "published one: --weights MVDp_s2 (for non-commercial use)"
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, image size, references and precision."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        metavar="W",
        help="a .pth or .safetensors file, an orbax folder, a training run, hf:OWNER/REPO/FILE, or "
        f"a name: small, {', '.join(PUBLISHED)} "
        "(default: $MVDUST3R_WEIGHTS, else %(default)s)",
    )
    group.add_argument(
        "--size",
        type=values.size,
        metavar="HxW",
        help="image size for the network, e.g. 224 or 224x320 (default: as in training)",
    )
    group.add_argument(
        "--refs",
        type=values.positive,
        default=DEFAULT_REFS,
        metavar="R",
        help="reference views of MV-DUSt3R+ (default: %(default)s)",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of matrix products (default: float32 on CPUs, bfloat16 elsewhere)",
    )

    add_objects_argument(group)


def add_objects_argument(parser) -> None:
    """For ``.pth`` files that hold more than a network."""
    parser.add_argument(
        "--ignore-objects",
        action="store_true",
        help="pass over objects of unknown classes in .pth files; nothing of theirs is run",
    )


def add_photo_arguments(parser: argparse.ArgumentParser) -> None:
    """How photographs are chosen and fitted."""
    group = parser.add_argument_group("photographs")
    group.add_argument(
        "--fit",
        choices=FITS,
        default="crop",
        help="crop to the network's shape (as in training), or pad to it (default: %(default)s)",
    )
    group.add_argument(
        "--max-views", type=values.positive, metavar="N", help="of more photographs, take N evenly"
    )
    group.add_argument(
        "--frames",
        type=values.positive,
        default=DEFAULT_FRAMES,
        metavar="N",
        help="frames taken of a video (default: %(default)s)",
    )
    group.add_argument(
        "--frame-choice",
        choices=video_frames.CHOICES,
        default="sharp",
        help="frames evenly in time, or sharp ones with equal change between (default: sharp)",
    )


def add_point_arguments(parser: argparse.ArgumentParser) -> None:
    """Which points are written."""
    parser.add_argument(
        "--min-confidence",
        type=values.at_least_zero,
        default=0.0,
        metavar="C",
        help="of points that are written (confidences start at 1)",
    )
    parser.add_argument(
        "--drop",
        type=values.share,
        default=0.1,
        metavar="SHARE",
        help="least confident (default: 0.1)",
    )
    parser.add_argument("--max-points", type=values.positive, metavar="N")
    parser.add_argument(
        "--consistent", action="store_true", help="drop points that other views see through"
    )
    parser.add_argument(
        "--allow-empty", action="store_true", help="write the formats even if no point is left"
    )


def kept_points(scene: SceneArrays, args: argparse.Namespace, console: Console) -> Kept:
    """The points of these arguments; says how many, and NoPointsError if there are none.

    With ``--allow-empty`` that is a warning.
    """
    wanted = PointFilter(args.min_confidence, args.drop, args.consistent, args.max_points)
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
        path = Path(text)
        if not path.exists():
            kind = "link to a missing file" if path.is_symlink() else "file or folder"
            raise FileNotFoundError(f"there is no {kind} {text!r}")
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
        say(f"passed over in {path}: {len(videos)} videos (give them by their names)")
    return found


def _frames(path: Path, args: argparse.Namespace, say: Callable[[str], None]):
    frames = video_frames.read_frames(path, args.frames, args.frame_choice)
    if len(frames) < args.frames:
        say(f"{path} has {len(frames)} frames; all are taken, where {args.frames} were wanted")
    return frames


def path_of(source: Path | photographs.Photo) -> str:
    """Where a photograph lies, as cameras and masks are found for it; the name of a frame."""
    return source.name if isinstance(source, photographs.Photo) else str(source.absolute())


def unique_names(sources: Sequence[Path | photographs.Photo]) -> list[str]:
    """File names; with their folder's name, then a number, where they would repeat."""
    told = [names.printable(source.name) for source in sources]
    if len(set(told)) < len(told):
        told = [
            name
            if isinstance(s, photographs.Photo)
            else f"{names.printable(s.absolute().parent.name)}_{name}".lstrip("_")
            for s, name in zip(sources, told, strict=True)
        ]
    if len(set(told)) < len(told):
        told = [f"{i:04d}_{name}" for i, name in enumerate(told)]
    return told


def open_model(args: argparse.Namespace, console: Console) -> Model:
    """The model of ``--weights``; also switches the compilation cache on."""
    use_compilation_cache(console)
    try:
        path = find_weights(args.weights, console.say)
    except FileNotFoundError as error:
        error.add_note("give a file with --weights, or set MVDUST3R_WEIGHTS")
        raise
    if args.weights == SMALL:
        console.say(_ABOUT_SMALL)
    with console.stage(f"weights {args.weights}"):
        return load_model(path, args.dtype, args.ignore_objects)


def use_compilation_cache(console: Console) -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told another one."""
    if jax.config.jax_compilation_cache_dir:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "mvdust3r_jax" / "xla"
    if not folder.exists():
        try:
            folder.mkdir(parents=True)
        except OSError:
            return
        console.say(f"compiled programs are kept in {folder} ($JAX_COMPILATION_CACHE_DIR moves it)")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
