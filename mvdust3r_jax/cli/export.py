"""``mvdust3r export``: weights and one compiled program in a folder, for serving."""

from __future__ import annotations

import argparse
from typing import Any

from mvdust3r_jax.cli import inputs
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.output_folder import check_output_folder


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Export, compile, write."""
    from mvdust3r_jax.reconstruction import memory, serving

    check_output_folder(args.folder, serving.FILES)
    model = inputs.open_model(args, console)
    height, width = args.size or model.image_size
    refs = min(args.refs, args.views) if model.config.cross_ref else 1
    memory.check(model.config, args.views, refs, height, width)
    with console.stage("export and compile"):
        serving.export_program(args.folder, model, args.views, args.refs, args.size)
    console.say(f"wrote {args.folder}")
    return {"files": [str(args.folder / name) for name in serving.FILES]}
