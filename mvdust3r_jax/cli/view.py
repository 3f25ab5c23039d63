"""``mvdust3r view``: saved scenes, or photographs, in a web page on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvdust3r_jax.cli import inputs, values
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE

_STAGES = ("read", "compile", "network", "cameras")


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
    scenes, job = saved_scenes(args.inputs), None
    if not scenes:
        model = inputs.open_model(args, console)
        if args.inputs:
            sources = inputs.gather(args.inputs, args, console.say)
            scene = _reconstruct(sources, model, args, console.step)
            scenes = {Path(args.inputs[0]).resolve().stem: scene}
            console.step("")

        def job(paths, progress, wishes):
            def told(stage):
                progress(_STAGES.index(stage) / len(_STAGES), stage)

            asked = argparse.Namespace(**vars(args) | {"frames": wishes.frames})
            given = inputs.gather([str(path) for path in paths], asked)
            if wishes.reference is not None:
                asked.reference = wishes.reference
                if wishes.reference in range(len(paths)):
                    given, asked.reference = _with_reference(given, paths, wishes.reference)
            return _reconstruct(given, model, asked, told, wishes.focal_px)

    with Viewer(scenes, reconstruct=job, host=args.host, port=args.port) as viewer:
        if not viewer.local_only:
            console.say("anyone who reaches this machine can see the scene and upload photographs")
        console.say(f"open {viewer.url} (Ctrl-C ends)")
        viewer.wait()
    return {}


def saved_scenes(texts: list[str]) -> dict[str, Scene]:
    """Scenes by the names of their folders; none where photographs are given.

    Raises:
      UsageError: saved scenes and photographs together.
    """
    files = {text: _scene_file(Path(text)) for text in texts}
    if not any(files.values()):
        return {}
    for text, file in files.items():
        if file is None:
            raise values.UsageError(
                f"{text} is no saved scene; give scenes or photographs, not both"
            )
    named: dict[str, Scene] = {}
    for file in files.values():
        own = file.resolve()
        name = own.parent.name if own.name == SCENE_FILE else own.stem
        named[name if name not in named else str(file.parent)] = Scene.load(file)
    return named


def _with_reference(
    given: list[Path | Photo], paths: Sequence[Path], number: int
) -> tuple[list[Path | Photo], int]:
    """Of files that ``--max-views`` made fewer, with the reference, and its number among them.

    number: of the reference among all files. It takes the place of the one nearest to it. What came
    of a video is as it was.
    """
    places = {path: place for place, path in enumerate(paths)}
    if not all(source in places for source in given):
        return given, number
    nearest = min(range(len(given)), key=lambda k: abs(places[given[k]] - number))
    return [*given[:nearest], paths[number], *given[nearest + 1 :]], nearest


def _scene_file(path: Path) -> Path | None:
    if path.is_dir():
        return path / SCENE_FILE if (path / SCENE_FILE).is_file() else None
    return path if path.suffix == ".npz" else None


def _reconstruct(sources, model, args: argparse.Namespace, progress, focal_px=None) -> Scene:
    return reconstruct(
        sources,
        model,
        reference=args.reference,
        num_refs=args.refs,
        mirrored=args.mirrored,
        size=args.size,
        fit=args.fit,
        focal_px=focal_px,
        progress=progress,
    )
