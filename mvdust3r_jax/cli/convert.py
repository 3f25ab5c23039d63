"""``mvdust3r convert``: weights between PyTorch, safetensors and orbax."""

from __future__ import annotations

import argparse
from typing import Any

from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.storage.places import is_remote
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import torch_args
from mvdust3r_jax.weights.places import find_weights


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Rewrite the weights, of a file or of a known name."""
    if args.target.exists() and not args.force:
        here = not (is_remote(args.target) or is_remote(args.source))
        # A name is that of no file here.
        itself = here and args.source.exists() and args.target.samefile(args.source)
        same = " (it is the input itself)" if itself else ""
        raise FileExistsError(f"{args.target} exists{same}; --force replaces it")
    source = find_weights(args.source)
    with console.stage("convert"):
        config = weight_files.convert(
            source, args.target, args.dtype, args.ignore_objects, replace=args.force
        )
    console.say(f"wrote {args.target}")
    if args.target.suffix.lower() in weight_files.TORCH_SUFFIXES:
        if told := torch_args.unlike_release(config):
            console.warn(told)
    return {"files": [str(args.target)]}
