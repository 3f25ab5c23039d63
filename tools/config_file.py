"""Reads a config file with overrides, for commands that do not use absl's flags."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import ml_collections


def load_config(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """A config file's ``get_config()`` with ``name=value`` overrides (values as JSON or text).

    Raises FileNotFoundError for a missing file, KeyError for a field that the config has not.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no such config: {path}")
    spec = importlib.util.spec_from_file_location("config_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    for override in overrides:
        name, _, text = override.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        value = tuple(value) if isinstance(value, list) else value
        config.update_from_flattened_dict({name: value})
    return config
