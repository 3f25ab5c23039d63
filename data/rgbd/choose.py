"""Chooses the trajectories of posed RGB-D scenes: in parallel, resumable, saved as one small file.

That file is the only thing besides the folders that the TFDS builder needs. Every scene depends on
the seed and its own name alone: order and number of processes do not matter.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm

from data.overlap import Rule, choose_trajectories
from data.rgbd.agreement import MOST, Sampled, depth_disagreement, sample
from data.rgbd.choice import Choice, SceneChoice, Task
from data.rgbd.compare import fingerprint
from data.rgbd.frames import check_frames
from data.rgbd.layouts import LAYOUTS, FramePaths
from data.rgbd.splits import ALL_TRAIN, Splits
from data.schema import CorruptRecord, Trajectories
from data.stored.origin import moved, scene_origin
from data.surfaces import Surfaces
from mvdust3r_jax.evaluation.rooms import room_of_scan
from mvdust3r_jax.media.names import portable


def choose_scene(task: Task, workers: int = 1) -> SceneChoice:
    """All of one scene: check the frames, compare their surfaces, draw trajectories.

    workers: threads of the nearest-neighbor search.
    """
    try:
        paths, problems = task.frames()
    except CorruptRecord as error:
        return _empty(task.rule, [f"scene cannot be read: {error}"])
    paths, far = _about_one_origin(paths)

    def take(path: FramePaths, depth_m: np.ndarray) -> Sampled:
        return sample(depth_m, path.intrinsics, path.world_from_cam, task.rule.step)

    paths, sampled, unreadable = check_frames(paths, take)
    problems = [*problems, *far, *unreadable]
    wanted = task.rule.num_inputs + task.rule.num_targets
    if len(paths) < wanted:
        reason = f"scene has {len(paths)} usable frames, a trajectory needs {wanted}"
        return _empty(task.rule, [*problems, reason])
    problems += _misfits(sampled)
    surfaces = Surfaces([frame.points for frame in sampled], task.rule.radius_m, workers)
    seed = [task.seed, zlib.crc32(f"{task.split}/{task.name}".encode())]
    trajectories = choose_trajectories(surfaces, surfaces.shares(), task.rule, seed)
    if not len(trajectories):
        problems.append(f"scene gives no trajectory with {task.rule}")
    return SceneChoice(tuple(path.name for path in paths), trajectories, tuple(problems))


def _misfits(frames: Sequence[Sampled]) -> list[str]:
    """A line where depth, intrinsics and poses cannot all be right."""
    disagreement = depth_disagreement(frames)
    if disagreement is None or disagreement <= MOST:
        return []
    return [
        f"two views of one place differ by {100 * disagreement:.0f} % in its depth: is depth in "
        "millimeters (of the layout's unit), are poses camera-to-world with OpenCV axes in meters, "
        "and do the intrinsics belong to these images?"
    ]


def _about_one_origin(frames: Sequence[FramePaths]) -> tuple[list[FramePaths], list[str]]:
    """The frames with poses about the first one's origin, and lines on those too far from it.

    What is stored will be about the first frame that is stored, which may be another.
    """
    near, problems = [], []
    for frame in frames:
        try:
            pose = moved(frame.world_from_cam, scene_origin(frames[0].world_from_cam), frame.name)
            near.append(dataclasses.replace(frame, world_from_cam=pose))
        except CorruptRecord as error:
            problems.append(str(error))
    return near, problems


def _empty(rule: Rule, problems: Sequence[str]) -> SceneChoice:
    blank = np.zeros((0, rule.num_inputs), np.int32), np.zeros((0, rule.num_targets), np.int32)
    return SceneChoice((), Trajectories(*blank, blank[1]), tuple(problems))


def plan(
    layout: str,
    root: Path,
    rule: Rule,
    *,
    seed: int = 0,
    splits: Splits = ALL_TRAIN,
) -> list[Task]:
    """Which scenes (or parts) go to which split.

    Raises:
      FileNotFoundError: no scene. ValueError: splits that name other scenes, cut one room in two
      or leave nothing to train on.
    """
    found = LAYOUTS[layout].find(root)
    if not found:
        raise FileNotFoundError(f"no scene of layout {layout!r} below {root}")
    rooms = {name: room_of_scan(name) for name in found}
    where = splits.of_scenes(rooms, seed)
    tasks = []
    for name, path in found.items():
        if where[name] != "train":
            tasks.append(Task(layout, path, where[name], name, rule, seed))
            continue
        for split, begin, end in splits.of_frames():
            tasks.append(Task(layout, path, split, name, rule, seed, begin=begin, end=end))
    return tasks


def choose(tasks: Sequence[Task], out: Path, *, processes: int = 1) -> Choice:
    """Runs the tasks and saves the choice to ``out``; a second run continues a broken-off one.

    Finished scenes are kept in ``<out>.parts`` until the end of the run.
    """
    parts = out.with_name(out.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    # Before the first scene is read: what changes later belongs to another choice.
    prints = [fingerprint(task.path) for task in tasks]
    places = [_part(parts, task, told) for task, told in zip(tasks, prints, strict=True)]
    workers = max(1, processes // max(len(tasks), 1))
    pairs = list(zip(tasks, places, strict=True))
    work = [(task, place, workers) for task, place in pairs if not place.is_file()]
    with tqdm.tqdm(total=len(tasks), initial=len(tasks) - len(work), unit="scene") as bar:
        for _ in _run(work, processes):
            bar.update()
    scenes: dict[str, dict[str, SceneChoice]] = {}
    for task, place in pairs:
        stored = Choice.load(place)
        scenes.setdefault(task.split, {})[task.name] = stored.scenes[task.split][task.name]
    first = tasks[0]
    told = zip(tasks, prints, strict=True)
    sources = {f"{t.split}/{t.name}": (t.begin, t.end, files) for t, files in told}
    choice = Choice(first.layout, first.rule, first.seed, scenes, sources)
    choice.save(out)
    # With what broken-off runs of other rules and files have left there.
    shutil.rmtree(parts)
    return choice


def _run(work: Sequence[tuple], processes: int) -> Iterator[None]:
    """Calls ``_finish`` for every piece of work, in processes where that helps; in any order."""
    if min(processes, len(work)) < 2:
        yield from (_finish(*piece) for piece in work)
        return
    # Spawned, because forking a process in which JAX has threads may hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(_finish, *piece) for piece in work]
        yield from (future.result() for future in concurrent.futures.as_completed(futures))


def _part(parts: Path, task: Task, files: str) -> Path:
    """Where a finished scene is kept; another rule or seed, or other raw files, have another."""
    told = dataclasses.replace(task, path=Path()), files
    key = zlib.crc32(repr(told).encode())
    return parts / f"{task.split}-{portable(task.name)}-{key:08x}.npz"


def _finish(task: Task, path: Path, workers: int) -> None:
    scene = choose_scene(task, workers)
    Choice(task.layout, task.rule, task.seed, {task.split: {task.name: scene}}).save(path)
