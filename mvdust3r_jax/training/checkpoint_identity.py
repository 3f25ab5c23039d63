"""Whose checkpoint it is: the code, the network and the tree of arrays that it was written with."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import jax

from mvdust3r_jax.models.config import COMPUTE_FIELDS, ModelConfig


def code_version() -> str:
    """Commit of the code, with ``+`` after it when files were changed; 'unknown' without git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def check_same_model(saved: dict[str, Any], config: ModelConfig, where: str) -> None:
    """An error that lists the differing fields when a checkpoint belongs to another model.

    Fields that change no parameter (dtype, remat) may differ. A field that is younger than the
    checkpoint has the value that it stands for when left out.
    """
    fields = dataclasses.fields(ModelConfig)
    saved = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING} | saved
    mine = json.loads(json.dumps(dataclasses.asdict(config)))
    names = sorted((set(saved) | set(mine)) - set(COMPUTE_FIELDS))
    different = [
        f"{n}: {saved.get(n)!r} there, {mine.get(n)!r} here"
        for n in names
        if saved.get(n) != mine.get(n)
    ]
    if different:
        raise ValueError(f"{where} is a checkpoint of another model: " + "; ".join(different))


def described_tree(state: Any) -> dict[str, Any]:
    """Path of every array of a state -> [shape, type], as JSON holds it."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): [list(x.shape), str(x.dtype)] for path, x in leaves}


def check_same_tree(saved: dict[str, Any], state: Any, where: str) -> None:
    """An error that lists the first arrays in which a checkpoint differs from this run's state."""
    mine = described_tree(state)
    different = [
        f"{path}: {saved.get(path, 'nothing')} there, {mine.get(path, 'nothing')} here"
        for path in sorted(set(saved) | set(mine))
        if saved.get(path) != mine.get(path)
    ]
    if different:
        more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(
            f"{where} holds another state than this run's: {'; '.join(different[:3])}{more}. "
            "config.optimizer, freeze, clip_norm and average_decay decide what a checkpoint holds: "
            "resume with those of before, or start in another workdir with init_from"
        )
