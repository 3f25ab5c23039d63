"""``mvdust3r convert``: weights between PyTorch, safetensors and orbax."""

from __future__ import annotations

import argparse
from typing import Any

from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.storage.places import is_remote
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import torch_args


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Rewrite the weights."""
    if args.target.exists() and not args.force:
        here = not (is_remote(args.target) or is_remote(args.source))
        itself = here and args.target.samefile(args.source)
        same = " (it is the input itself)" if itself else ""
        raise FileExistsError(f"{args.target} exists{same}; --force replaces it")
    with console.stage("convert"):
        config = weight_files.convert(
            args.source, args.target, args.dtype, args.ignore_objects, replace=args.force
        )
    console.say(f"wrote {args.target}")
    if args.target.suffix.lower() in weight_files.TORCH_SUFFIXES:
        if told := torch_args.unlike_release(config):
            console.warn(told)
    return {"files": [str(args.target)]}
