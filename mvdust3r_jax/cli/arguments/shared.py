"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import os

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import words

DEFAULT_WEIGHTS = os.environ.get("MVDUST3R_WEIGHTS") or words.SHIPPED[0]
DEFAULT_FRAMES = 12
# What arguments are added to: a command's parser, or one of its groups.
Parser = argparse._ActionsContainer


def add_model_arguments(parser: argparse.ArgumentParser) -> Parser:
    """Weights, image size, number of references and precision; the group, for more of them."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        metavar="W",
        help="a .pth or .safetensors file, an orbax folder, a training run, hf:OWNER/REPO/FILE, or "
        f"a name: {', '.join((*words.SHIPPED, *words.PUBLISHED))} "
        f"(default: $MVDUST3R_WEIGHTS, else {words.SHIPPED[0]})",
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
        default=words.REFS,
        metavar="R",
        help="reference views of MV-DUSt3R+ (default: %(default)s)",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of matrix products (default: bfloat16; on CPUs only if measured to be much faster)",
    )
    add_objects_argument(group)
    return group


def add_asking_arguments(group: Parser) -> None:
    """From where, and how often, the network is asked, for who reconstructs."""
    group.add_argument(
        "--reference",
        type=values.reference,
        metavar="auto|middle|first|N",
        help="whose camera is the world: the photograph that the network is surest of, the one "
        "most like all others, the first, or the N-th from 0 (default: auto where it costs little, "
        "as with MV-DUSt3R+, else middle, of two the first)",
    )
    group.add_argument(
        "--mirrored",
        action="store_true",
        help="ask the network of the mirror images, too, and take the mean: fewer errors for twice "
        "its time",
    )


def add_objects_argument(parser: Parser) -> None:
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
        choices=words.FITS,
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
        choices=words.FRAME_CHOICES,
        default="sharp",
        help="frames evenly in time, or sharp ones with equal change between (default: sharp)",
    )


def add_formats(parser: argparse.ArgumentParser) -> None:
    """What ``--export`` may name: a table, without arguments of its own."""
    table = "\n".join(f"{name:<12} {said}" for name, said in words.FORMATS.items())
    parser.add_argument_group("formats", table)


def add_point_arguments(parser: Parser) -> None:
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
    parser.add_argument(
        "--far",
        type=values.above_zero,
        metavar="TIMES",
        help="drop points farther from their camera than TIMES the median: sky, views of windows",
    )
    parser.add_argument("--max-points", type=values.positive, metavar="N")
    parser.add_argument(
        "--consistent", action="store_true", help="drop points that other views see through"
    )
    parser.add_argument(
        "--allow-empty", action="store_true", help="write the formats even if no point is left"
    )
