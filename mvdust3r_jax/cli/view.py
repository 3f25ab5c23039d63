"""``mvdust3r view``: a saved scene, or photographs, in a web page on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mvdust3r_jax.cli import inputs, values
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE

HELP = "a scene in the browser: a result folder, photographs, or none to drop some on the page"
EXAMPLES = (
    "mvdust3r view scene/",
    "mvdust3r view photos/ --weights MVDp_s2.pth",
    "mvdust3r view --port 8090",
)
_STAGES = ("read", "compile", "network", "cameras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("inputs", nargs="*", metavar="DIR|IMAGES", help="a result, or photographs")
    inputs.add_photo_arguments(parser)
    inputs.add_model_arguments(parser)
    page = parser.add_argument_group("page")
    page.add_argument(
        "--port", type=values.port, default=8080, help="or the next free one (default: 8080)"
    )
    page.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets the whole network in (default: %(default)s)",
    )


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Serve until Ctrl-C."""
    try:
        from mvdust3r_jax.viewer import Viewer
        from mvdust3r_jax.viewer.guard import AddressError, check_address
    except ModuleNotFoundError as error:
        message = "the viewer needs viser: pip install 'mvdust3r-jax[demo]'"
        raise ModuleNotFoundError(message) from error
    try:
        check_address(args.host, args.port)
    except AddressError as error:
        raise values.UsageError(str(error)) from error
    scene, job = None, None
    if len(args.inputs) == 1 and (Path(args.inputs[0]) / SCENE_FILE).is_file():
        scene = Scene.load(args.inputs[0])
    else:
        model = inputs.open_model(args, console)
        if args.inputs:
            sources = inputs.gather(args.inputs, args, console.say)
            scene = _reconstruct(sources, model, args, console.step)
            scene.names = inputs.unique_names(sources)
            console.step("")

        def job(paths, progress):
            told = lambda stage: progress(_STAGES.index(stage) / len(_STAGES), stage)  # noqa: E731
            return _reconstruct(paths, model, args, told)

    with Viewer(scene, reconstruct=job, host=args.host, port=args.port) as viewer:
        if not viewer.local_only:
            console.say("anyone who reaches this machine can see the scene and upload photographs")
        console.say(f"open {viewer.url} (Ctrl-C ends)")
        viewer.wait()
    return {}


def _reconstruct(sources, model, args: argparse.Namespace, progress) -> Scene:
    return reconstruct(
        sources, model, num_refs=args.refs, size=args.size, fit=args.fit, progress=progress
    )
