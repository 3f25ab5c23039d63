"""The documentation is true: its commands parse, its examples run, its links lead somewhere."""

import ast
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax import VARIANTS, ModelConfig, cli
from mvdust3r_jax.cli.arguments import shared
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.reconstruction import serving
from mvdust3r_jax.weights import files as weight_files
from tests.xla_flags import xla_flags

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands of these pages' code blocks are run, in order, in a folder that has what they name.
RUN = ["README.md", "quickstart.md", "porting.md"]
# What commands of a clone name.
CLONE = ("examples", "configs", "data", "train.py", "eval.py", "Makefile")
CLONE += ("setup.cfg", "pyproject.toml", "constraints.txt")
# Folders of Python files but for tests.
TOP = ("mvdust3r_jax", "configs", "data", "tools", "benchmarks")
CHECKED = ROOT / "docs" / "checked.md"
CONFIG = ModelConfig(16, 1, 1, 16, 2, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# What a test appends to the commands of the block that follows, so that they end soon.
_SMALLER = re.compile(r"<!-- test: ([^>]*?) -->\s*$")
_COMMAND = re.compile(r"(mvdust3r|python|make|pytest|pip|gcloud) \S")


def blocks(page, language):
    """Code blocks of a page; shell ones have no language."""
    return [body for found, body in _BLOCK.findall(page.read_text()) if found == language]


def shell_lines(page):
    """Commands of the code blocks, continued lines joined, remarks cut off."""
    return lines_of("\n".join(blocks(page, "")))


def blocks_in_order(page):
    """(language, body, what a test appends to its commands) of all code blocks."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        appended = _SMALLER.search(text[: block.start()])
        yield block[1], block[2], shlex.split(appended[1]) if appended else []


def lines_of(body):
    """A shell block's commands, remarks cut off."""
    lines = (line.split("  #")[0].strip() for line in body.replace("\\\n", " ").splitlines())
    return [line for line in lines if _COMMAND.match(line)]


def commands(page):
    """All commands: of code blocks, and inside of sentences and tables."""
    text = _BLOCK.sub("", page.read_text())
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return shell_lines(page) + [code for code in inline if _COMMAND.match(code)]


def source_of(words):
    """The Python file that a command runs, of this repository or of an installed package."""
    if words[:2] == ["python", "-m"]:
        own = ROOT / (words[2].replace(".", "/") + ".py")
        found = None if own.exists() else importlib.util.find_spec(words[2])
        return Path(found.origin) if found else own
    return ROOT / words[1] if words[0] == "python" else None


def known_flag(flag, source):
    """Whether the file defines the flag, for argparse or absl; ``--config.x`` needs the config."""
    name = flag.split("=")[0].removeprefix("--")
    if name.startswith("config."):
        return any(has_field(config, name.split(".")[1:]) for config in configs())
    text = source.read_text()
    if "from configs import flags" in text:
        text += (ROOT / "configs" / "flags.py").read_text()
    written = rf"{re.escape(name)}|\{{name\}}|\{{\w+\}}-{re.escape(name.rpartition('-')[2])}"
    return name == "help" or re.search(
        rf'(add_argument\(\s*f?"--({written})"|DEFINE_\w+\(\s*"{name}")', text
    )


@functools.cache
def configs():
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    modules = [importlib.import_module(f"configs.{name}") for name in names]
    return [module.get_config() for module in modules if hasattr(module, "get_config")]


def has_field(config, path):
    """Whether a nested config has a dotted name."""
    for name in path:
        if not hasattr(config, "keys") or name not in config:
            return False
        config = config[name]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_as_documented(page):
    """Programs, files, flags, extras and make's targets that a page names are there."""
    for command in commands(page):
        words = shlex.split(command.replace("[", "").replace("]", " "))
        source = source_of(words)
        if words[0] == "mvdust3r":
            check_own_command(words[1:], command)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), command
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if "/" in word), command
        elif source is not None:
            assert source.exists(), command
            flags = [word for word in words if word.startswith("--")]
            assert all(known_flag(flag, source) for flag in flags), command
            files = [word for word in words if re.fullmatch(r"configs/\w+\.py", word)]
            assert all((ROOT / file).exists() for file in files), command


def check_own_command(words, command):
    parsers = cli.command_parsers()
    # A name alone, or with dots or capitals where something is to be filled in.
    if len(words) == 1 or any(re.fullmatch(r"\.\.\.|[A-Z|]+", word) for word in words):
        flags = {word for word in words if word.startswith("--")}
        assert flags <= set(parsers[1][words[0]]._option_string_actions), command
    else:
        parsers[0].parse_args(words)


def test_examples_of_the_help_parse():
    """Each command's own examples."""
    for name in cli.COMMANDS:
        for example in importlib.import_module(f"mvdust3r_jax.cli.arguments.{name}").EXAMPLES:
            check_own_command(shlex.split(example.split(" > ")[0])[1:], example)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_in_sentences_exist(page):
    """``--flags`` that are named on their own belong to some program here."""
    flags = set().union(*(p._option_string_actions for p in cli.command_parsers()[1].values()))
    sources = [ROOT / "train.py", ROOT / "eval.py"]
    sources += [
        path for name in ("data", "benchmarks", "tools") for path in ROOT.glob(f"{name}/*.py")
    ]
    for code in re.findall(r"`(--[\w.-]+)[^`]*`", _BLOCK.sub("", page.read_text())):
        assert code in flags or any(known_flag(code, s) for s in sources), code


def test_other_commands_have_a_date():
    """A command that no test runs stands in checked.md with the date of its last run."""
    listed = re.findall(
        r"^\| `([^`]+)` \| (\d{4}-\d\d-\d\d|not run here)", CHECKED.read_text(), re.M
    )
    starts = tuple(command for command, _ in listed)
    for page in PAGES:
        ran = shell_lines(page) if page.name in RUN else []
        for command in commands(page):
            parsed = command.startswith(("mvdust3r ", "pytest ", "make test"))
            assert command in ran or parsed or command.startswith(starts), command


# ---------------------------------------------------------------- what is run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with everything that the pages name, and small stand-ins for waiting and weights."""
    rng = np.random.default_rng(0)
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    for name in ("room_mvd.safetensors", "MVDp_s2.pth", "runs/small"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        weight_files.save_weights(tmp_path / name, variables, CONFIG, image_size=(16, 24))
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        image = Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8))
        image.save(tmp_path / name)
        image.save(tmp_path / "photos" / name)
    for name in CLONE:
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shared, "DEFAULT_WEIGHTS", str(tmp_path / "room_mvd.safetensors"))
    monkeypatch.chdir(tmp_path)
    return {
        "variables": variables,
        "photographs": rng.integers(0, 255, (3, 16, 24, 3), dtype=np.uint8),
    }


@pytest.mark.parametrize("name", RUN)
def test_pages_run_as_written(name, place, monkeypatch):
    """Every block, in the page's order, in a fresh folder with the files that they name.

    Commands are as the page has them; a comment before a block may make them end sooner.
    """
    page = PAGES[0] if name == "README.md" else ROOT / "docs" / name
    if any("mvdust3r view" in line for line in shell_lines(page)):
        pytest.importorskip("viser")
        monkeypatch.setattr("mvdust3r_jax.viewer.Viewer.wait", lambda viewer: None)
    # tests/reconstruction/serving_test.py exports and loads programs; here the call is as written.
    monkeypatch.setattr(serving, "load_program", lambda folder: lambda photographs: None)
    for language, body, appended in blocks_in_order(page):
        if language == "python":
            exec(compile(body, page.name, "exec"), place)
        for line in lines_of(body) if language == "" else ():
            run_command(shlex.split(line), appended)


def run_command(words, appended):
    """As written, where it can be run; make's targets are told without running them."""
    if words[0] == "mvdust3r":
        assert cli.main([*words[1:], *appended, "--quiet"]) == 0, words
    elif words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], check=True, stdout=subprocess.DEVNULL)
    elif words[0] == "python" and Path(words[1]).exists():
        command = [sys.executable, *words[1:], *appended]
        one_device = os.environ | {"XLA_FLAGS": xla_flags(1)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_device)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_and_arguments_of_examples_exist(page):
    """What examples import is there, and takes the keywords that they give it."""
    for code in blocks(page, "python"):
        names = {}
        tree = ast.parse(code)
        imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), names)
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            function = names.get(getattr(call.func, "id", None))
            if function is not None:
                keywords = {k.arg for k in call.keywords}
                assert keywords <= set(inspect.signature(function).parameters), ast.unparse(call)


def table_names(page, header):
    """Names in backticks in the first column of the table with that header, up to its end."""
    rows = page.read_text().split(header)[1].split("\n\n")[0].splitlines()
    firsts = [row.split("|")[1] for row in rows if row.startswith("|")]
    return {name for first in firsts for name in re.findall(r"`(\w+)`", first)}


def test_tables_of_networks_and_configs_are_whole():
    """Every variant, and every config that trains; none that is not there."""
    assert table_names(ROOT / "docs" / "networks.md", "`VARIANTS[...]`") == set(VARIANTS)
    told = table_names(ROOT / "docs" / "training.md", "| config | what |")
    paths = (ROOT / "configs").glob("*.py")
    documents = {
        p.stem for p in paths if p.stem != "defaults" and "def get_config" in p.read_text()
    }
    assert told == {name for name in documents if not name.startswith("eval_")}


def modules_and_pages():
    """(what it is, text in backticks) of every page, and of the docstring of every module."""
    for page in PAGES + [ROOT / "CONTRIBUTING.md", ROOT / "weights" / "README.md"]:
        text = _BLOCK.sub("", page.read_text())
        yield page, " ".join(re.findall(r"`([^`]+)`", text))
    for top in (*TOP, "tests"):
        for path in (ROOT / top).rglob("*.py"):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            yield path, " ".join(re.findall(r"``?([^`]+)``?", docstring))


def test_paths_in_backticks_exist():
    """Files of this repository, from its root or the package's, and file names without a folder."""
    rooms = {path.name for path in (ROOT / "mvdust3r_jax").iterdir() if path.is_dir()}
    names = {path.name for top in (*TOP, "tests") for path in (ROOT / top).rglob("*.py")}
    names |= {path.name for path in ROOT.glob("*.py")}
    for source, text in modules_and_pages():
        for word in re.findall(r"(?<![\w./=-])[\w./*-]+", text):
            top, _, below = word.rstrip(".").partition("/")
            if below and top in {*TOP, "tests", "docs", "weights", "examples"}:
                assert any(ROOT.glob(word)), (source, word)
            elif below.endswith(".py") and top in rooms:
                assert (ROOT / "mvdust3r_jax" / word).exists(), (source, word)
            elif word.endswith(".py") and not below:
                assert word in names, (source, word)


def test_links_lead_somewhere():
    """Files that pages link to, and pictures."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), (page.name, target)


def test_hooks_take_the_version_of_ruff_that_is_installed():
    """Else what a commit formats is what `make lint` refuses."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    hooked = re.search(r"ruff-pre-commit\s+rev: v(\S+)", hooks)[1]
    assert f"ruff=={hooked}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells run from top to bottom, as a program, and leave what the last one says."""
    matplotlib = pytest.importorskip("matplotlib")
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room").symlink_to(ROOT / "examples" / "room")
    matplotlib.use("Agg")
    names: dict = {}
    for cell in cells:
        exec(compile(cell, "quickstart.ipynb", "exec"), names)
    assert all(path.is_file() for path in names["written"]) and len(names["written"]) == 4
