"""Arguments of ``mvdust3r reconstruct``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared, words

HELP = "photographs, a folder or a video to points, cameras and Gaussians"
EXAMPLES = (
    "mvdust3r reconstruct photos/ --out scene",
    "mvdust3r reconstruct a.jpg b.jpg c.jpg --out scene --weights MVDp_s2.pth",
    "mvdust3r reconstruct walk.mp4 --frames 16 --out scene --export ply,colmap,3dgs",
    "mvdust3r reconstruct photos/ --out scene --cameras transforms.json",
    "mvdust3r reconstruct photos/ --out scene --refine --export colmap",
)
DEFAULT_EXPORTS = "ply,glb,cameras,preview"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IMAGES|FOLDER|VIDEO", help="at least two views"
    )
    parser.add_argument(
        "--out", "-o", required=True, type=values.local_path, metavar="DIR", help="for results"
    )
    shared.add_photo_arguments(parser)
    shared.add_asking_arguments(shared.add_model_arguments(parser))
    known = parser.add_argument_group("what is known")
    known.add_argument(
        "--focal",
        type=values.focal,
        metavar="PX|exif|one|each",
        help="focal length in pixels of the files, or from EXIF; or estimate one for all, or for "
        "each (default: one, and its own where a photograph's points plainly say so)",
    )
    known.add_argument(
        "--cameras",
        type=values.local_path,
        metavar="FILE|DIR",
        help="cameras.json, transforms.json, or a folder with one of them or a COLMAP model",
    )
    known.add_argument(
        "--use",
        choices=words.USES,
        help="what to take from --cameras; poses bring their unit (default: all)",
    )
    known.add_argument(
        "--masks",
        type=values.local_path,
        metavar="DIR",
        help="masks of the same names; white, or any label, is kept",
    )
    result = parser.add_argument_group("results")
    result.add_argument(
        "--refine",
        action="store_true",
        help="match features of the photographs and refine the cameras on them where they plainly "
        "fit better afterwards; points follow their cameras (takes the extra 'refine')",
    )
    result.add_argument(
        "--export",
        default=DEFAULT_EXPORTS,
        metavar="F,F",
        help="formats, as below (default: %(default)s)",
    )
    shared.add_point_arguments(result)
    shared.add_formats(parser)
    many = parser.add_argument_group("many photographs")
    many.add_argument(
        "--window",
        type=values.positive,
        metavar="N",
        help="take more than N photographs N at a time, and join the windows by the third of their "
        "views that they have in common",
    )
    many.add_argument(
        "--window-by",
        choices=("order", "likeness"),
        default="order",
        help="which photographs are taken together: those that follow each other (neighbors must "
        "see the same things), or those that are alike to the encoder in a first pass "
        "(default: %(default)s)",
    )
    many.add_argument(
        "--keep-windows",
        type=values.local_path,
        metavar="DIR",
        help="a folder for what the windows gave: a run that broke off goes on from there",
    )
    parser.add_argument(
        "--memory", type=values.above_zero, metavar="GIB", help="limit (default: what is free)"
    )
