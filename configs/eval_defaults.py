"""Every field of an evaluation's config, with the value it has unless a config says otherwise.

A config starts from ``get_config()`` and overrides; a field that does not stand here is an error.
"""

from __future__ import annotations

import ml_collections

from configs import checks

# Fields of a data set, by its source. Those without a sensible value for all have the empty one.
_COMMON = {
    "split": "test",
    "height": 64,
    "width": 64,
    # Exactly the trajectories of a saved list (splits/ of an earlier run) of a set of this name;
    # rooms pass over their count then, of a stored set it must be 0.
    "split_file": "",
}
DATASETS = {
    # Generated rooms of the split's seeds; options: fields of data.rooms.Options that differ from
    # its defaults.
    "rooms": _COMMON | {"source": "rooms", "count": 100, "options": {}},
    # A built data set (python -m data.build); count evenly spread trajectories, 0 = all.
    "records": _COMMON | {"source": "records", "count": 0, "folder": ""},
}
# What a stored set leaves to a default; every other field must be given.
_OPTIONAL = ("split_file", "options")


def get_config() -> ml_collections.ConfigDict:
    """No data set yet; the other configs add theirs and change what they need."""
    config = ml_collections.ConfigDict()

    # Sets: name -> fields of DATASETS
    config.datasets = ml_collections.ConfigDict()

    # Numbers of input views, and of render-only views for each of them (or one for all)
    config.views = "4,8,12,16,20,24"
    config.num_targets = "1,2,3,4,5,6"

    # Rows of mvdust3r_jax.evaluation.methods; what the weights cannot serve is skipped.
    config.methods = "constant,mean,oracle,mvd,mvdp,mvdp_best,pairwise"
    config.num_refs = 4  # paths of mvdp, mvdp_auto, mvdp_best, points
    config.window = 4  # views at once of mvd_windows
    # Standard deviation, in pixels at the mean distance, of the Gaussians of 'points'; clipped at
    # the weights' max_scale times the focal length in pixels (`small`, 64x64: at 0.54 to 0.96)
    config.splat_px = 0.6
    config.mean_samples = 200  # training trajectories that 'mean' averages over

    # Pairwise baseline: its own weights, '' = the same as for the other methods
    config.pairwise_weights = ""
    config.pairwise_graph = "complete"  # or 'window', 'reference'
    config.pairwise_window = 4  # neighbors on either side, graph 'window' only
    config.pairwise_steps = 300
    config.pairwise_batch = 8  # pairs in one forward pass

    config.batch_per_device = 1  # trajectories at once on each device
    config.devices = 0  # local devices to use, 0 = all
    config.dtype = ""  # of matrix products; '' = as trained
    config.chamfer = "auto"  # 'blocked', 'kdtree', or 'auto': kdtree on a CPU
    config.pictures = 2  # best and worst scenes of each data set that are drawn, for one method
    # From here on a misspelled field is an error; the names of data sets are free.
    config.lock()
    config.datasets.unlock()
    return config


def dataset(source: str, **fields) -> ml_collections.ConfigDict:
    """The fields of a data set of this source, some of them given."""
    return ml_collections.ConfigDict(dict(DATASETS[source]) | fields)


def check(config: ml_collections.ConfigDict) -> None:
    """ValueError naming every field that does not exist, is missing or has another type."""
    known = get_config()
    wrong = checks.faults(config, known, free=("datasets",))
    wrong += checks.missing(config, known, free=("datasets",))
    for name, given in config.get("datasets", {}).items():
        prefix, source = f"datasets.{name}.", given.get("source", "")
        if source not in DATASETS:
            wrong.append(f"{prefix}source must be one of {sorted(DATASETS)}, got {source!r}")
            continue
        fields = DATASETS[source]
        wrong += checks.faults(given, fields, prefix, free=("options",))
        needed = {k: v for k, v in fields.items() if k not in _OPTIONAL}
        wrong += checks.missing(given, needed, prefix)
    checks.refuse(wrong, "configs/eval_defaults.py")
