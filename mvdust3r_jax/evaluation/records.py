"""Records of an evaluation: one JSON line per scene, and the file that says whose they are.

A record says ``dataset, views, method, id`` and numbers; NaN is written as null (the number has no
value for this scene) and infinities as strings. Records carry no times, so that a repeated run
writes the same file; times stand in a file of their own. Each process writes its own files.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.places import AnyPath

Record = dict[str, Any]
KEYS = ("dataset", "views", "method", "id")
_RUN = "eval.json"
# Facts of which evaluations of earlier versions say nothing.
_LATER = ("data", "split_ids")


def encode(value: float) -> float | str | None:
    """A number as JSON can hold it."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def decode(value: float | str | None) -> float:
    """Inverse of `encode`."""
    return float("nan") if value is None else float(value)


def records_of(key: Record, ids: list[str], numbers: Mapping[str, np.ndarray]) -> Iterator[Record]:
    """One record per id; padding is left out."""
    for i, name in enumerate(ids):
        values = {k: encode(float(v[i])) for k, v in sorted(numbers.items())}
        yield key | {"id": name} | values


# ---------------------------------------------------------------- files of records


def append(path: Path, records: Iterable[Record]) -> None:
    """Adds complete lines, flushed to the disk, so that a killed run loses at most one batch."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """All complete records; a last line cut off by a kill is removed from the file."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.decode("utf-8").splitlines()]


def peek(path: Path) -> list[Record]:
    """All complete records of a file that another process may be writing; it is left alone."""
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.decode("utf-8").splitlines()]


def part_file(workdir: Path, stem: str) -> Path:
    """This process's file of records."""
    if jax.process_count() == 1:
        return workdir / f"{stem}.jsonl"
    return workdir / f"{stem}-{jax.process_index():05d}-of-{jax.process_count():05d}.jsonl"


def all_records(workdir: Path, stem: str) -> list[Record]:
    """The records of all processes; of a scene that two runs have written at a time, the first."""
    records = [r for p in sorted(workdir.glob(f"{stem}*.jsonl")) for r in read(p)]
    first: dict[Any, Record] = {}
    for number, record in enumerate(records):
        # Times have no scene of their own; each of them counts.
        key = tuple(record[k] for k in KEYS) if "id" in record else number
        first.setdefault(key, record)
    return list(first.values())


def finished(workdir: Path, own: Path) -> set[tuple]:
    """What is done already, also by an earlier run of another number of processes."""
    records = read(own)
    for path in workdir.glob("metrics*.jsonl"):
        if path != own:
            records += peek(path)
    return {tuple(r[k] for k in KEYS) for r in records}


# ---------------------------------------------------------------- whose records they are


def run_facts(workdir: Path) -> dict[str, Any]:
    """What an evaluation has written down about itself; nothing binds that has no records yet."""
    path = workdir / _RUN
    if not path.exists() or not any(p.stat().st_size for p in workdir.glob("metrics*.jsonl")):
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def check_no_training(workdir: AnyPath) -> None:
    """ValueError if the folder is a training run's, whose metrics have the name of the records."""
    found = [name for name in ("checkpoints", "best") if (workdir / name).is_dir()]
    if found:
        raise ValueError(
            f"{workdir} is the workdir of a training run (it has {found[0]}/): evaluate into a "
            "folder of its own"
        )


def check_same_run(workdir: Path, facts: Mapping[str, Any], targets: Mapping[str, int]) -> None:
    """ValueError if the folder holds records of another evaluation. Writes nothing.

    targets: render-only views by the number of input views; rounds may be added, not changed.
    """
    before = run_facts(workdir)
    if not before:
        return
    known = before.get("targets", {})
    told = {k: v for k, v in facts.items() if k in before or k not in _LATER}
    pairs = {k: (before.get(k), v) for k, v in told.items()}
    pairs |= {f"num_targets of {v} views": (known.get(v, t), t) for v, t in targets.items()}
    changed = [f"{k}: {old} there, {new} here" for k, (old, new) in pairs.items() if old != new]
    if changed:
        raise ValueError(f"{workdir} holds another evaluation; different: {', '.join(changed)}")


def check_ids(workdir: Path, planned: Mapping[tuple[str, int], Collection[str]]) -> None:
    """ValueError if a planned round has a record of a trajectory that it lacks. Writes nothing.

    planned: trajectories by data set and number of input views.
    """
    planned = {where: set(ids) for where, ids in planned.items()}
    for record in itertools.chain(*map(peek, sorted(workdir.glob("metrics*.jsonl")))):
        ids = planned.get((record["dataset"], record["views"]))
        if ids is not None and record["id"] not in ids:
            raise ValueError(
                f"{workdir} holds another evaluation; {record['dataset']} at {record['views']} "
                f"views: {record['id']!r} there, which is none of the {len(ids)} here"
            )


def claim(
    workdir: Path, facts: Mapping[str, Any], targets: Mapping[str, int], notes: Mapping[str, Any]
) -> None:
    """Writes down what is evaluated; notes (name -> {method: words}) join those of earlier runs."""
    check_same_run(workdir, facts, targets)
    before = run_facts(workdir)
    content = dict(facts) | {"targets": before.get("targets", {}) | dict(targets)}
    content |= {name: before.get(name, {}) | dict(words) for name, words in notes.items()}
    with whole_file(workdir / _RUN) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
