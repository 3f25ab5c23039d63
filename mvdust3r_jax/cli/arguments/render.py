"""Arguments of ``mvdust3r render``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared, words

HELP = "videos (orbit, fly-through) or other formats of a saved scene, without the network"
EXAMPLES = (
    "mvdust3r render scene/",
    "mvdust3r render scene/ --frames 240 --size 720",
    "mvdust3r render scene/ --path camera_path.json",
    "mvdust3r render scene/ --export colmap,nerfstudio --drop 0.3",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "folder", type=values.local_path, metavar="DIR", help="a folder of reconstruct"
    )
    parser.add_argument(
        "--export", default="mp4", metavar="F,F", help="formats, as below (default: %(default)s)"
    )
    parser.add_argument(
        "--frames",
        type=values.positive,
        metavar="N",
        help="about so many frames of each video (default: 30 a second; the orbit 4 s, the flight "
        "1 s from camera to camera, at most 12 s)",
    )
    parser.add_argument(
        "--size",
        type=values.positive,
        default=words.VIDEO_PX,
        metavar="PX",
        help="longer side of the videos (default: %(default)s)",
    )
    parser.add_argument(
        "--path",
        type=values.local_path,
        metavar="FILE",
        help="a camera path saved by the viewer: the video is path.mp4, 2 s from view to view",
    )
    shared.add_point_arguments(parser)
    shared.add_formats(parser)
