"""What is in a file of weights: arrays that are exactly a network's, and its config as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mvdust3r_jax.models.config import COMPUTE_FIELDS, ModelConfig
from mvdust3r_jax.weights import torch_file
from mvdust3r_jax.weights.shapes import variable_shapes

Variables = dict[str, Any]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class TrainedOn(NamedTuple):
    """What weights were trained on, None where their file does not say it.

    image_size: (height, width) of the images. views: the most that one pass had.
    """

    image_size: tuple[int, int] | None = None
    views: int | None = None

    def texts(self) -> dict[str, str]:
        """What is known, by name, as files keep it."""
        return {name: json.dumps(value) for name, value in self._asdict().items() if value}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> TrainedOn:
        """The inverse of `texts`; other names are passed over."""
        size, views = (json.loads(texts.get(name) or "null") for name in cls._fields)
        if size is not None:
            if not isinstance(size, list) or len(size) != 2 or not all(map(_is_count, size)):
                raise ValueError(f"image_size should be a height and a width, got {size!r:.60}")
            size = (size[0], size[1])
        if views is not None and not _is_count(views):
            raise ValueError(f"views should be a positive whole number, got {views!r:.60}")
        return cls(size, views)


class WeightsError(ValueError):
    """A weight file that cannot be used; the message says why and what to do."""


def checked(variables: Variables, config: ModelConfig) -> Variables:
    """The variables, if they are exactly the network's; ValueError listing all differences."""
    found = {"/".join(str(k.key) for k in path): tuple(x.shape) for path, x in leaves(variables)}
    found = {name: shape for name, shape in found.items() if not name.startswith("unused/")}
    wanted = variable_shapes(config)
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(found))]
    problems += [f"unexpected {name}" for name in sorted(set(found) - set(wanted))]
    problems += [
        f"{name}: expected {shape}, got {found[name]}"
        for name, shape in sorted(wanted.items())
        if name in found and found[name] != shape
    ]
    if problems:
        raise ValueError("the weights do not fit their config:\n  " + "\n  ".join(problems))
    return variables


def check_finite(told: object, variables: Variables) -> None:
    """WeightsError naming the first weights that are not finite numbers, and ``told``, the file."""
    for keys, array in leaves(variables):
        # The extremes carry NaN and infinity, and take no memory.
        finite = not array.size or (np.isfinite(array.min()) and np.isfinite(array.max()))
        torch_file.release([array])  # of a mapped file
        if not finite:
            name = "/".join(str(k.key) for k in keys)
            raise WeightsError(f"{told}: {name} has values that are not finite numbers")


def check_real(variables: Variables) -> None:
    """ValueError naming the first weights that are complex numbers."""
    for keys, array in leaves(variables):
        if np.iscomplexobj(array):
            name = "/".join(str(k.key) for k in keys)
            raise ValueError(f"{name} has complex numbers; weights are real")


def leaves(tree: Variables) -> list:
    """(path of keys, array) of all of them."""
    return jax.tree_util.tree_leaves_with_path(tree)


def config_json(config: ModelConfig) -> str:
    """The config as files keep it."""
    return json.dumps(dataclasses.asdict(config))


def config_from_json(text: str) -> ModelConfig:
    """The config of a file, as it is computed by default; ValueError where it is none of ours."""
    fields = json.loads(text)
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if not isinstance(fields, dict) or set(fields) - known:
        unknown = sorted(set(fields) - known) if isinstance(fields, dict) else text[:80]
        raise ValueError(f"the config in the file is not understood: {unknown}")
    try:
        return ModelConfig(**{k: v for k, v in fields.items() if k not in COMPUTE_FIELDS})
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"the config in the file is not understood: {error}") from error


def as_float32(tree: Any) -> Any:
    """The arrays of a tree in float32, where they are not."""
    with np.errstate(over="ignore"):  # `check_finite` finds it
        return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
