"""What a resumed run's configuration differs in from that of its checkpoint.

Every difference is told. Fields that only say how a run is watched or computed may change;
any other changes what its numbers mean, and must be asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from absl import logging

from mvdust3r_jax.models.config import VARIANTS
from mvdust3r_jax.training.processes import RunError

# Fields that change no sample, no update and no number that is compared.
MAY_CHANGE = (
    *("log_every", "pictures_every", "eval_every", "checkpoint_every", "keep_checkpoints"),
    "milestone_every",
    *("tensorboard", "save_minutes", "stall_minutes", "stop_step", "max_skipped_in_row"),
    *("parallel", "mesh", "slices", "gather", "remat", "accumulation"),
    *("data.prefetch", "data.threads", "data.read_ahead"),
    "init_from",  # read by the first start alone
)
# But not of networks with the skip CNN: each part of a batch is normalized by its own statistics.
OF_PARTS = ("accumulation",)
# Fields whose entries stand for a default where they are left out: compared as a whole.
WHOLE = ("options",)
# A field that a set to evaluate on does not have is that of ``data``.
AS_TRAINED = "as in data"
# Of sets to evaluate on, by name: what they are made of (`judge.check_sets`), there and here.
Sets = tuple[Mapping[str, Any], Mapping[str, Any]]
UNKNOWN: Sets = ({}, {})


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their path, ``data.seed``."""
    fields = {}
    for name, value in config.items():
        path, nested = prefix + name, isinstance(value, dict) and name not in WHOLE
        if path == "eval":
            fields[path] = list(value)  # in order: the first one decides
        fields |= _flat(value, f"{path}.") if nested else {path: value}
    return fields


def _filled(fields: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """With what ``other`` has of sets to evaluate on that both know."""
    sets = [f"eval.{name}." for name in fields.get("eval", ()) if name in other.get("eval", ())]
    missing = (name for name in other if name.startswith(tuple(sets)) and name not in fields)
    return fields | dict.fromkeys(missing, AS_TRAINED)


def _with_terms(fields: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """With the terms of the loss that only ``other``'s version knows: here they had no weight."""
    return dict.fromkeys((name for name in other if name.startswith("loss.")), 0.0) | fields


def _told(field: str, value: Any) -> Any:
    """A field's value as it is compared: data sets by name, since they may be moved in between."""
    if field.endswith("mixture"):
        return [[PurePath(folder).name, weight] for folder, weight in value]
    return value


def changed_settings(saved: str, mine: str, sets: Sets = UNKNOWN) -> dict[str, tuple[Any, Any]]:
    """Field -> (value in the checkpoint, value here), of two configurations as JSON.

    Fields that only one of them has are another version's, and stand for what was done without;
    but terms of the loss that one of them lacks have weight 0 there, and a set to evaluate on may
    have or lack any field, and sets may come and go. What a set is made of is its field
    ``made_of``, compared where both sides say it.
    """
    there, here = (_flat(json.loads(text)) for text in (saved, mine))
    there, here = _filled(there, here), _filled(here, there)
    there, here = _with_terms(there, here), _with_terms(here, there)
    there, here = (
        fields | {f"eval.{name}.made_of": made for name, made in known.items()}
        for fields, known in zip((there, here), sets, strict=True)
    )
    return {
        name: (there[name], here[name])
        for name in sorted(set(there) & set(here))
        if _told(name, there[name]) != _told(name, here[name])
    }


def must_be_allowed(changes: dict[str, tuple[Any, Any]], mine: str) -> list[str]:
    """The fields among them that change what the numbers of this configuration's run mean."""
    network = VARIANTS.get(json.loads(mine).get("variant"))
    of_parts = OF_PARTS if network and network.skip else ()
    return [name for name in changes if name not in MAY_CHANGE or name in of_parts]


def _decides(config: dict[str, Any]) -> tuple[str, ...]:
    """How fields begin, beside those of ``data``, of which the deciding value is a function.

    ND is that of path 0, of any weights of the loss; other paths change it where all paths meet.
    """
    always = f"eval.{next(iter(config.get('eval', {})), '')}.", "eval_batches", "dtype"
    if config.get("best_metric") != "nd":
        return (*always, "loss.", "num_refs")
    network = VARIANTS.get(config.get("variant"))
    return (*always, "num_refs") if network and network.cross_ref else always


def judged_alike(saved: str, mine: str, sets: Sets = UNKNOWN) -> bool:
    """Whether values of two runs on the set that decides, the first, may be compared."""
    config = json.loads(mine)
    own = next(iter(config.get("eval", {}).values()), {})
    changes = must_be_allowed(changed_settings(saved, mine, sets), mine)
    inherited = [name for name in changes if name.startswith("data.")]
    return not any(name.startswith(_decides(config)) for name in changes) and all(
        name.removeprefix("data.") in own for name in inherited
    )


def as_text(changes: dict[str, tuple[Any, Any]]) -> str:
    """One line: ``peak_lr: 0.001 before, 0.01 now; ...``."""
    return "; ".join(
        f"{name}: {there!r} before, {here!r} now" for name, (there, here) in changes.items()
    )


def compare_settings(
    saved: str, mine: str, step: int, *, allow_changes: bool, sets: Sets = UNKNOWN
) -> dict[str, tuple[Any, Any]]:
    """Tells what differs from the configuration of a checkpoint, of step ``step``.

    Raises:
      RunError: something that must be allowed first.
    """
    changes = changed_settings(saved, mine, sets)
    if changes:
        logging.warning("other settings than before: %s", as_text(changes))
    heavy = {name: changes[name] for name in must_be_allowed(changes, mine)}
    if heavy and not allow_changes:
        raise RunError(
            f"since step {step} settings were changed that say what this run's numbers mean: "
            f"{as_text(heavy)}. Give --allow_changes to go on, or another workdir (with init_from, "
            "if need be)"
        )
    return changes
