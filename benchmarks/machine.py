"""What a measurement was made on, and where its numbers are kept."""

import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mvdust3r_jax.reconstruction.machine import features, processor

RESULTS = Path(__file__).parent / "results"


def machine() -> dict:
    """CPU model, cores, accelerator and versions; nothing that names the machine."""
    return {
        "cpu": processor().get("model name", platform.processor()),
        "features": features(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def of_network(name: str, weights: str | os.PathLike) -> str:
    """``name`` for `small`; with the weights' own name for any other."""
    network = Path(weights).stem
    return name if network == "small" else f"{name}_{network}"


def of_settings(name: str, settings: Mapping[str, Any]) -> str:
    """``name``; where results under other ``settings`` are kept there, with what differs in it.

    So a call with other weights or fewer rooms replaces nothing that a page shows.
    """
    if not results_path(name).exists():
        return name
    kept = read_results(name)["settings"]
    other = {key: value for key, value in settings.items() if kept.get(key) != value}
    said = (f"{key}_{Path(str(value)).stem}" for key, value in other.items())
    return "_".join((name, *(re.sub(r"[^\w.-]+", "-", text) for text in said)))


def results_path(name: str) -> Path:
    """Where the results of this name are or will be."""
    return RESULTS / f"{name}.json"


def read_results(name: str) -> Any:
    """What `write_results` was given."""
    return json.loads(results_path(name).read_text())["results"]


def measured_on(name: str) -> dict:
    """Description of the machine that results come from."""
    return json.loads(results_path(name).read_text())["machine"]


def write_results(name: str, content: object) -> None:
    """Writes ``results/NAME.json`` with the machine's description."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "results": content}, indent=1)
    partial = RESULTS / f"{name}.partial"
    partial.write_text(text + "\n")
    partial.replace(results_path(name))
