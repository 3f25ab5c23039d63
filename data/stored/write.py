"""Writes a data set with its builders: both configs, by one build at a time, to the end.

A build that was killed is finished by the next one, if it is asked for the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data.stored import beam
from data.stored.builder import FRAMES, TRAJECTORIES, UNREADABLE, SceneBuilder, scene_frames
from data.stored.made_from import check_record
from data.stored.reader import check_config
from mvdust3r_jax.storage import locks
from mvdust3r_jax.storage.atomic import whole_file

# In a data set's folder: what Beam's workers have loaded; in the frames' folder: what they lack.
_PARTS, _NOTE = ".frames", "skipped.txt"


def _parts_by_beam(builder: SceneBuilder, options: Any) -> Path:
    """Frames of all scenes, loaded by Beam's workers; a broken-off call goes on with the rest."""
    folder = Path(builder.data_dir).parents[1] / _PARTS
    tasks = [
        (split, number, name)
        for split, names in builder.scene_names().items()
        for number, name in enumerate(names)
    ]
    beam.make_parts(functools.partial(scene_frames, builder), folder.absolute(), tasks, options)
    return folder


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """The folder is this build's while the block lasts; False where the system has no locks.

    Raises:
      ValueError: another build holds it.
    """
    if not locks.EXIST:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        alone = locks.lock(handle)
    except BlockingIOError as error:
        os.close(handle)
        raise ValueError(
            f"{folder}: another build is writing there; wait for its end, or choose another place"
        ) from error
    try:
        yield alone
    finally:
        os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Of builds that were killed: TFDS gives a folder its name when it is complete."""
    for config in (FRAMES, TRAJECTORIES):
        for path in folder.glob(f"{config}/incomplete.*"):
            shutil.rmtree(path)


def _check_built(builder: SceneBuilder, folder: Path) -> None:
    """ValueError where an earlier build's files were damaged since."""
    if not Path(builder.data_dir).exists():
        return
    try:
        check_config(folder, builder.builder_config.name)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{error}; remove {folder}, or choose another place") from error


def _empty_frames(builder: SceneBuilder) -> list[str]:
    """The problems of frames that are stored empty, out of their records."""
    decoders = {name: tfds.decode.SkipDecoding() for name in ("image", "depth")}
    names = [
        frame["name"].decode()
        for split in builder.info.splits
        for frame in builder.as_data_source(split, decoders=decoders)
    ]
    return [n.removeprefix(UNREADABLE).strip() for n in names if n.startswith(UNREADABLE)]


def _write(frames: SceneBuilder, tables: SceneBuilder, beam_options: Any) -> list[str]:
    """Both configs; the problems of frames that are stored empty."""
    done = Path(frames.data_dir).exists()
    if beam_options is not None and not done:
        frames.parts = _parts_by_beam(frames, beam_options)
    frames.download_and_prepare(file_format="array_record")
    note = Path(frames.data_dir) / _NOTE
    # A build may have been killed before it wrote this.
    if not note.is_file():
        problems = _empty_frames(frames) if done else frames.skipped
        with whole_file(note) as partial:
            partial.write_text("".join(f"{line}\n" for line in problems))
    tables.download_and_prepare(file_format="array_record")
    return note.read_text().splitlines()


def write_dataset(
    builder_of_config: Callable[[str], SceneBuilder], *, beam_options: Any = None
) -> tuple[Path, list[str]]:
    """Builds both configs; returns the data set's folder and the frames that were passed over.

    builder_of_config: from "frames" or "trajectories" to a builder. The list is also written to
    ``skipped.txt`` in the frames' folder. What is complete already is left as it is.

    Raises:
      StaleDataError: what is there already was made from something else.
      ValueError: another build is at work there, or what is there already is damaged.
    """
    frames, tables = (builder_of_config(config) for config in (FRAMES, TRAJECTORIES))
    folder = Path(frames.data_dir).parents[1]
    made_from = frames.made_from()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder) as alone:
        begun = any((folder / part).exists() for part in (FRAMES, TRAJECTORIES, _PARTS))
        check_record(folder, made_from, begun)
        if alone:
            _remove_leftovers(folder)
        for builder in (frames, tables):
            _check_built(builder, folder)
        skipped = _write(frames, tables, beam_options)
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
    return folder, skipped
