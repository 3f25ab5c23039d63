"""Frames generated on Apache Beam, where one machine is too small: the extra ``[beam]``.

Any runner that Beam knows, as long as its workers see the folders of raw files and of results, and
have this repository and its extras installed.

The same builders and the same records in the same order: keys are (scene, frame) numbers, and
TFDS's writer sorts by them. One scene is one unit of work. Beam and, where TFDS's Beam path asks
for it, TensorFlow are needed only here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def frame_collection(scene_frames: Callable, names: Sequence[str]):
    """A Beam transform that yields (key, example) for every frame of the split's scenes.

    scene_frames: (number, name) of a scene to its (key, example, problem or None); pickled.
    """
    import apache_beam as beam

    def frames(numbered):
        for key, example, _ in scene_frames(*numbered):
            yield key, example

    return beam.Create(list(enumerate(names))) | beam.Reshuffle() | beam.FlatMap(frames)


def options_from(text: str):
    """Options as TFDS takes them: ``runner=DataflowRunner,project=NAME,temp_location=gs://...``."""
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(flags=[f"--{option}" for option in text.split(",")])


def local_options(workers: int):
    """Options of Beam's local runner with this many worker processes."""
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(
        runner="DirectRunner",
        direct_num_workers=workers,
        direct_running_mode="multi_processing",
    )
