"""The house of docs/design.md: which room may use which, no circles, and a light import."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms of the package from the ground up, each with the rooms that it may use. ``GROUND``
# lies below all.
ROOMS = {
    "storage": (),
    "media": (),
    "geometry": (),
    "models": (),
    "splat": ("geometry",),
    "cameras": ("geometry", "media"),
    "metrics": ("geometry",),
    "weights": ("models", "storage"),
    "pairwise": ("cameras", "geometry", "models"),
    "export": ("geometry", "media", "splat", "storage"),
    "training": ("geometry", "metrics", "models", "splat", "storage", "weights"),
    "evaluation": (*("cameras", "geometry", "metrics", "models", "pairwise", "splat", "storage"),),
    "reconstruction": (
        *("cameras", "export", "geometry", "media", "models", "splat", "storage", "weights"),
    ),
    "viewer": ("export", "media", "storage"),
    "cli": ("cameras", "export", "media", "models", "reconstruction", "storage", "viewer"),
}
ROOMS["cli"] += ("weights",)
GROUND = ("pytrees", "types", "chunked", "products", "allotted")
# Folders of data/, in the same way, and its modules that lie below them; all others lie above.
DATA = {"stored": (), "rooms": ("stored",), "rgbd": ("stored",), "released": ("stored", "rgbd")}
DATA_GROUND = ("schema", "augment", "color", "overlap", "photographic", "recolor")
DATA_GROUND += ("sample_place", "surfaces")
# Outside the package, from the ground up: a folder may use the package and the folders before it.
OUTSIDE = ("configs", "data", "tools", "benchmarks", "train", "eval")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Folders with other Python files: tests may import all, the rest is made by ``make``.
LEFT_OUT = ("tests", "docs", "build")


def _sources() -> dict[str, Path]:
    """Every module of the repository, found without git, which an archive lacks."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in LEFT_OUT]
    # Hidden folders and virtual environments are a user's own.
    own = (f for f in folders if f.name[0] != "." and not (f / "pyvenv.cfg").exists())
    files = [*ROOT.glob("*.py"), *(file for folder in own for file in folder.rglob("*.py"))]
    return {_module(file): file for file in sorted(files)}


SOURCES = _sources()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this repository that a module names, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports {'.' * node.level}: write the whole name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in SOURCES else node.module)
    return frozenset(name for name in found if name in SOURCES and name != module)


def _docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(SOURCES[module].read_text()))


def _defined(module: str) -> set[str]:
    """Names that a module makes, a folder's also those that it hands on; none without a module."""
    found = set()
    for node in ast.parse(SOURCES[module].read_text()).body if module in SOURCES else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and SOURCES[module].name == "__init__.py":
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _room(module: str) -> str:
    """'geometry' of ``mvdust3r_jax.geometry.align``, 'rgbd' of ``data.rgbd.choose``, else ''."""
    return (*module.split("."), "")[1]


@pytest.mark.parametrize("module", [m for m in SOURCES if m.startswith("mvdust3r_jax.")])
def test_rooms_use_what_they_may(module):
    """A module of the package uses its own room, those that ROOMS allows, and the ground."""
    room = "cli" if module == "mvdust3r_jax.__main__" else _room(module)
    assert room in ROOMS or room in GROUND, f"{module} lies in no room that this test knows"
    allowed = {room, *GROUND, *ROOMS.get(room, ())} if room in ROOMS else {*GROUND}
    # Of the package itself, whose names lead up to the rooms, only the command line: its version.
    known = {"mvdust3r_jax"} if module == "mvdust3r_jax.cli.commands" else set()
    for name in _imports(module) - known:
        assert name.startswith("mvdust3r_jax."), f"{module} imports {name}, outside the package"
        assert _room(name) in allowed, f"{module} imports {name}: {room} may not use that room"


@pytest.mark.parametrize("rooms", [ROOMS, DATA], ids=["package", "data"])
def test_rooms_are_ranked(rooms):
    """Every room may only use rooms that stand before it: arrows go down."""
    names = list(rooms)
    for room, allowed in rooms.items():
        assert all(names.index(lower) < names.index(room) for lower in allowed), room


@pytest.mark.parametrize("module", [m for m in SOURCES if m.startswith("data.")])
def test_folders_of_data_use_what_they_may(module):
    """A folder of data uses itself, those that DATA allows and the ground; the ground itself."""
    room = _room(module)
    assert room in DATA or "." not in module.removeprefix("data."), f"{room} is not in DATA"
    if room in DATA or room in DATA_GROUND:
        allowed = {*DATA_GROUND} | ({room, *DATA[room]} if room in DATA else set())
        names = [name for name in _imports(module) if name.split(".")[0] == "data"]
        for name in names:
            assert _room(name) in allowed, f"{module} imports {name}: {room} may not use that"


@pytest.mark.parametrize("module", [m for m in SOURCES if not m.startswith("mvdust3r_jax")])
def test_outside_uses_the_package_and_what_stands_before(module):
    """configs, data, tools, benchmarks and the two programs import downwards only."""
    own = module.split(".")[0]
    assert own in OUTSIDE, f"{module} lies in no folder that this test knows"
    lower = {"mvdust3r_jax", *OUTSIDE[: OUTSIDE.index(own) + 1]} - {"train", "eval"}
    for name in _imports(module):
        assert name.split(".")[0] in lower, f"{module} imports {name}"


def test_no_circles():
    """The modules can be put in an order in which each imports earlier ones only."""
    graph = {module: _imports(module) for module in SOURCES if module != "mvdust3r_jax"}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("place, rooms", [("mvdust3r_jax", ROOMS), ("data", DATA)])
def test_rooms_say_what_they_are_for(place, rooms):
    """Every room's docstring is at most ten lines and names the rooms that it may use."""
    for room, allowed in rooms.items():
        docstring = _docstring(f"{place}.{room}")
        assert len(docstring.splitlines()) <= 10, room
        said = docstring.split("May use:")[1].split(".")[0]
        assert [name for name in allowed if name not in said] == [], room


@pytest.mark.parametrize(
    "folder", ["data", *(f"data.{f}" for f in DATA), *(f"mvdust3r_jax.{r}" for r in ROOMS)]
)
def test_doors_lead_somewhere(folder):
    """What a docstring names as the folder's door is a module of it, or a name in one."""
    door = re.split("Doors?:", _docstring(folder))
    assert len(door) == 2, f"{folder} says not once what its door is"
    for said in re.findall(r"``([\w.]+)``", door[1]):
        module, _, name = f"{folder}.{said}".rpartition(".")
        found = f"{module}.{name}" in SOURCES or name in _defined(module)
        assert found, f"{folder} has no {said}"


def test_root_of_the_package_is_small():
    """Next to the rooms stand only the ground and the public names."""
    files = {path.name for path in (ROOT / "mvdust3r_jax").iterdir() if path.is_file()}
    assert files <= {"__init__.py", "__main__.py", "py.typed", *(f"{name}.py" for name in GROUND)}


def test_import_is_light():
    """Importing the package loads no torch, tensorflow, tfds, cv2 or viewer."""
    heavy = ["torch", "tensorflow", "tensorflow_datasets", "grain", "cv2", "viser", "matplotlib"]
    code = f"import sys, mvdust3r_jax; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
