"""Arguments of ``mvdust3r export``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared

HELP = "an ahead-of-time program for a number of views and a size, which runs without compiling"
EXAMPLES = (
    "mvdust3r export served --weights MVDp_s2.pth --views 8",
    "mvdust3r export served --weights small --views 4 --size 224x320",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("folder", type=values.local_path, metavar="OUT")
    parser.add_argument("--views", type=values.positive, required=True, metavar="V")
    shared.add_model_arguments(parser)
