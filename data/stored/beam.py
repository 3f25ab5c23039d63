"""Frames generated on Apache Beam, where one machine is too small: the extra ``[beam]``.

Workers load the frames of scenes into parts, one file a scene, in a folder that all of them see;
the ordinary writer then reads the parts in order. So the data set is the same, byte for byte, on
any runner and any number of workers, a worker that is lost costs the scene it was at, and of Beam
no more is needed than Create, Reshuffle and Map. (TFDS's own Beam writer needs more: on DaskRunner
its ``Top.Largest`` gives an empty list to the side input that asks for it.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flax.serialization import msgpack_restore, msgpack_serialize

from mvdust3r_jax.storage.atomic import whole_file

# Bytes of the length that stands before each record of a part.
_LENGTH = 8

# Runners that Beam has, but does not find by their short name.
_RUNNERS = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}

# (split, number, name) of a scene.
Task = tuple[str, int, str]
# (key, example, problem or None) of a frame.
Record = tuple[int, dict[str, Any], str | None]


def part_file(folder: Path, split: str, number: int) -> Path:
    """Where a scene's frames are kept until they are written."""
    return folder / split / f"{number:08d}.part"


def write_part(load: Callable[..., Iterable[Record]], folder: Path, task: Task) -> None:
    """One scene; what an earlier attempt has finished is left as it is."""
    split, number, name = task
    path = part_file(folder, split, number)
    if path.exists():
        return
    with whole_file(path) as partial, partial.open("wb") as file:
        for record in load(split, number, name):
            # Not pickled: the folder is shared, and who reads a pickle runs what is in it.
            content = msgpack_serialize(list(record))
            file.write(len(content).to_bytes(_LENGTH, "little") + content)


def read_part(folder: Path, split: str, number: int) -> Iterator[Record]:
    """A scene's frames again, one after the other."""
    with part_file(folder, split, number).open("rb") as file:
        while length := file.read(_LENGTH):
            yield tuple(msgpack_restore(file.read(int.from_bytes(length, "little"))))


def make_parts(
    load: Callable[..., Iterable[Record]], folder: Path, tasks: list[Task], options: Any
) -> None:
    """Parts of all scenes, made by the workers that ``options`` name.

    load: (split, number, name) to the scene's records; pickled.
    """
    import apache_beam as beam

    folder.mkdir(parents=True, exist_ok=True)
    with beam.Pipeline(options=options) as pipeline:
        write = functools.partial(write_part, load, folder)
        pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.Map(write)


def options_from(text: str) -> Any:
    """Options as TFDS takes them: ``runner=DataflowRunner,project=NAME,temp_location=gs://...``."""
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = []
    for option in text.split(","):
        name, _, value = option.partition("=")
        flags.append(f"--{name}={_RUNNERS.get(value, value)}" if value else f"--{name}")
    return PipelineOptions(flags=flags)


def local_options(workers: int) -> Any:
    """Options of Beam's local runner with this many worker processes."""
    return options_from(
        f"runner=DirectRunner,direct_num_workers={workers},direct_running_mode=multi_processing"
    )
