"""``mvdust3r render``: further formats of a saved scene, videos by default."""

from __future__ import annotations

import argparse
from typing import Any

from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.inputs import (
    counted,
    export_formats,
    kept_points,
    use_compilation_cache,
)
from mvdust3r_jax.cli.values import UsageError
from mvdust3r_jax.export.path_file import read_path
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.results import check_names


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Load, filter, write beside the scene."""
    from mvdust3r_jax import export

    formats = export_formats(args.export)
    scene = Scene.load(args.folder)
    use_compilation_cache(console)
    folder = args.folder if args.folder.is_dir() else args.folder.parent
    if args.path is not None and "mp4" not in formats:
        raise UsageError(f"--path is about the format mp4; --export has {', '.join(formats)}")
    options = dict(num_frames=args.frames, longest_px=args.size, progress=console.advance)
    if args.path is None:
        exporters = export.with_videos(**options)
    else:
        exporters = export.with_path_video(keyframes=read_path(args.path), **options)
    check_names(folder, [exporters[name].file_name for name in formats])
    kept = kept_points(scene, args, console)
    files = export.write(scene, folder, formats, kept, exporters, console.writes, args.allow_empty)
    console.step("")
    console.say("\n".join(f"wrote {path}" for path in files))
    return {"files": [str(path) for path in files], "points": counted(kept)}
