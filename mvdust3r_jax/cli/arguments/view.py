"""Arguments of ``mvdust3r view``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared

HELP = "scenes in the browser: result folders, photographs, or none to drop some on the page"
EXAMPLES = (
    "mvdust3r view scene/",
    "mvdust3r view first/ second/",
    "mvdust3r view photos/ --weights MVDp_s2.pth",
    "mvdust3r view --port 8090",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("inputs", nargs="*", metavar="DIR|IMAGES", help="results, or photographs")
    shared.add_photo_arguments(parser)
    shared.add_asking_arguments(shared.add_model_arguments(parser))
    page = parser.add_argument_group("page")
    page.add_argument(
        "--port", type=values.port, default=8080, help="or the next free one (default: 8080)"
    )
    page.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets the whole network in (default: %(default)s)",
    )
