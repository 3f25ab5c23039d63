"""Arguments of ``mvdust3r convert``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import shared, words

HELP = "weights between PyTorch's .pth, .safetensors and orbax folders"
EXAMPLES = (
    "mvdust3r convert MVDp_s2.pth mvdp.safetensors",
    "mvdust3r convert MVDp_s2.pth mvdp_bf16.safetensors --dtype bfloat16",
    "mvdust3r convert runs/small trained.safetensors",
    "mvdust3r convert mvdp.safetensors mvdp.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "source", type=values.any_path, metavar="IN", help="weights, or a training run"
    )
    parser.add_argument(
        "target",
        type=values.any_path,
        metavar="OUT",
        help=".pth, .safetensors, or no ending: an orbax folder",
    )
    parser.add_argument(
        "--dtype",
        choices=words.WEIGHT_DTYPES,
        default="float32",
        help="of the stored parameters (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    shared.add_objects_argument(parser)
