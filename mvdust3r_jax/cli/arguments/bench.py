"""Arguments of ``mvdust3r bench``."""

from __future__ import annotations

import argparse

from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import words

HELP = "forward time for several numbers of views, as a share of this machine's matmul rate"
EXAMPLES = (
    "mvdust3r bench --variant mvdp --views 2,4,8",
    "mvdust3r bench --variant mvdp --dtype bfloat16 --json > bench.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("--variant", choices=words.VARIANTS, default="mvdp")
    parser.add_argument(
        "--views", type=values.counts, default="2,4,8", metavar="V,V", help="(default: %(default)s)"
    )
    parser.add_argument("--refs", type=values.positive, default=4, metavar="R")
    parser.add_argument("--size", type=values.size, default=(224, 224), metavar="HxW")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=values.positive, default=3, metavar="N")
    parser.add_argument("--cold", action="store_true", help="without the compilation cache")
