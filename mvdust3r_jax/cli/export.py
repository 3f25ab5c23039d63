"""``mvdust3r export``: weights and one compiled program in a folder, for serving."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mvdust3r_jax.cli import inputs, values
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.reconstruct import check_output_folder

HELP = "an ahead-of-time program for a number of views and a size, which runs without compiling"
EXAMPLES = (
    "mvdust3r export served --weights MVDp_s2.pth --views 8",
    "mvdust3r export served --weights small --views 4 --size 224x320",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument("--views", type=values.positive, required=True, metavar="V")
    inputs.add_model_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Export, compile, write."""
    from mvdust3r_jax.reconstruction import serving

    check_output_folder(args.folder, serving.FILES)
    model = inputs.open_model(args, console)
    with console.stage("export and compile"):
        serving.export_program(args.folder, model, args.views, args.refs, args.size)
    console.say(f"wrote {args.folder}")
    return {"files": [str(args.folder / name) for name in serving.FILES]}
