"""``mvdust3r convert``: weights between PyTorch, safetensors and orbax."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.inputs import add_objects_argument
from mvdust3r_jax.weights import files as weight_files

HELP = "weights between PyTorch's .pth, .safetensors and orbax folders"
EXAMPLES = (
    "mvdust3r convert MVDp_s2.pth mvdp.safetensors",
    "mvdust3r convert MVDp_s2.pth mvdp_bf16.safetensors --dtype bfloat16",
    "mvdust3r convert runs/small trained.safetensors",
    "mvdust3r convert mvdp.safetensors mvdp.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("source", type=Path, metavar="IN", help="weights, or a training run")
    parser.add_argument(
        "target", type=Path, metavar="OUT", help=".pth, .safetensors, or no ending: an orbax folder"
    )
    parser.add_argument(
        "--dtype",
        choices=tuple(weight_files.DTYPES),
        default="float32",
        help="of the stored parameters (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_objects_argument(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Rewrite the weights."""
    if args.target.exists() and not args.force:
        same = " (it is the input itself)" if args.target.samefile(args.source) else ""
        raise FileExistsError(f"{args.target} exists{same}; --force replaces it")
    with console.stage("convert"):
        weight_files.convert(args.source, args.target, args.dtype, args.ignore_objects)
    console.say(f"wrote {args.target}")
    return {"files": [str(args.target)]}
