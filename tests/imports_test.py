"""The import directions of docs/design.md, and that importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mvdust3r_jax"

# From the ground up. A module may import from its own layer or a lower one.
LAYERS = [
    ["types", "chunked"],
    ["geometry"],
    ["models", "splat"],
    [
        "losses",
        "lpips",
        "metrics",
        "pose",
        "pnp",
        "global_alignment",
        "chamfer",
        "image_metrics",
        "alignment_start",
        "pairwise",
    ],
]


def _layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else ""
    for index, names in enumerate(LAYERS):
        if part in names:
            return index
    return len(LAYERS)


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    """No module imports from a higher layer, nor from data, configs or tests."""
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name in _imports(path):
        assert name.split(".")[0] not in {"data", "configs", "tests", "train", "eval"}, name
        if name.startswith("mvdust3r_jax.") and own != "mvdust3r_jax.__init__":
            assert _layer(name) <= _layer(own), f"{own} (lower) imports {name} (higher)"


def test_import_is_light():
    """Importing the package loads no torch, tensorflow, tfds, cv2 or viewer."""
    heavy = ["torch", "tensorflow", "tensorflow_datasets", "grain", "cv2", "viser", "matplotlib"]
    code = f"import sys, mvdust3r_jax; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
