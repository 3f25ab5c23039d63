"""Writes the API reference, ``docs/api/``, from signatures and docstrings.

    python -m tools.api_reference

The sources are parsed, not imported: annotations stay as they were written, shapes included, and
no optional package is needed. A page is a list of modules; every module of the package but the
command line's stands on exactly one page, names that begin with an underscore on none. The command
line has a page of its own, what each command's ``--help`` prints.
"""

from __future__ import annotations

import argparse
import ast
import os
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mvdust3r_jax"
OUT = ROOT / "docs" / "api"
PAGES = {
    "use": ("From photographs to files", "reconstruction scene images video_in known_cameras "
            "memory serving export viewer"),
    "networks": ("The networks", "models types"),
    "weights": ("Weights and checkpoints", "weights port checkpoint safetensors_file torch_args "
                "torch_file torch_layout torch_writer"),
    "geometry": ("Geometry, poses and alignment", "geometry pose pnp global_alignment "
                 "alignment_start pairwise chunked"),
    "splatting": ("Gaussian splatting", "splat"),
    "training": ("Training", "losses objective render_loss lpips optimizer train_step parallel "
                 "processes watchdog changed_settings metric_log panels"),
    "evaluation": ("Evaluation", "evaluate eval_methods eval_report eval_plots markdown metrics "
                   "image_metrics chamfer"),
}  # fmt: skip
_SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:")
_INDEX_TEXT = """# API reference

Made from the docstrings by `python -m tools.api_reference`. What most programs need is in
`mvdust3r_jax` itself: `load_model`, `reconstruct`, `ModelConfig`, `MVDust3r`, `VARIANTS`.
Letters in shapes: `B` batch, `R` reference views (paths), `V` input views, `T` render-only views,
`H W` pixels, `N` tokens of a view, `D` width, `G` Gaussians, `K` SH coefficients, `C` cameras.
"""


def modules_of(name: str) -> list[str]:
    """A module, or a package with all of its modules; dotted, below the package."""
    path = ROOT / PACKAGE / name
    if not path.is_dir():
        return [name]
    inside = sorted(p.stem for p in path.glob("*.py") if not p.stem.startswith("__"))
    return [name, *(f"{name}.{stem}" for stem in inside)]


def source(module: str) -> str:
    """The text of a dotted module."""
    path = ROOT / PACKAGE / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text()


def parse(module: str) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(source(module))


def pages() -> dict[str, str]:
    """All pages by file name."""
    made, index = {}, [_INDEX_TEXT]
    for name, (title, roots) in PAGES.items():
        modules = [module for root in roots.split() for module in modules_of(root)]
        made[f"{name}.md"] = page(title, modules)
        index.append(f"## [{title}]({name}.md)\n")
        lines = [f"- `{module}`: {summary(parse(module))}" for module in modules]
        index.append("\n".join(lines) + "\n")
    index.append("## [The command line](commands.md)\n\n- what `--help` of each command prints\n")
    return {"index.md": "\n".join(index), "commands.md": commands_page()} | made


def commands_page() -> str:
    """The help of every command, 100 columns wide."""
    os.environ.pop("MVDUST3R_WEIGHTS", None)  # it would be shown as the default
    from mvdust3r_jax import cli

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        helps = {name: p.format_help() for name, p in cli.command_parsers()[1].items()}
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    parts = [f"## mvdust3r {name}\n\n```text\n{text.strip()}\n```" for name, text in helps.items()]
    return "\n\n".join(["# The command line", *parts]) + "\n"


def summary(node: ast.Module) -> str:
    """The first sentence of a docstring, on one line."""
    first = (ast.get_docstring(node) or "").split("\n\n")[0]
    return " ".join(first.replace("``", "`").split())


def page(title: str, modules: list[str]) -> str:
    """One page: its modules in order."""
    return "\n\n".join([f"# {title}", *map(module_text, modules)]) + "\n"


def module_text(module: str) -> str:
    """A module's docstring, then its public functions and classes in the order of the file."""
    tree, lines = parse(module), source(module).splitlines()
    parts = [f"## `{PACKAGE}.{module}`", markdown(ast.get_docstring(tree) or "")]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            is_class = isinstance(node, ast.ClassDef)
            parts.append(class_text(node, lines) if is_class else function_text(node))
    return "\n\n".join(part for part in parts if part)


def signature(node: ast.FunctionDef, name: str) -> str:
    """As it is called, on several lines where it is long."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({ast.unparse(node.args)}){returns}"
    if len(line) > 96:
        arguments = _arguments(node.args)
        line = f"{name}(\n" + "".join(f"    {a},\n" for a in arguments) + f"){returns}"
    return f"```python\n{line}\n```".replace("'", '"')


def _arguments(arguments: ast.arguments) -> list[str]:
    """Each argument with its annotation and default."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(plain, defaults, strict=True))
    found = [_argument(a, d) for a, d in pairs]
    if arguments.vararg:
        found.append("*" + ast.unparse(arguments.vararg))
    elif arguments.kwonlyargs:
        found.append("*")
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [_argument(a, d) for a, d in keywords]
    return found + (["**" + ast.unparse(arguments.kwarg)] if arguments.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    equals = " = " if argument.annotation else "="
    return ast.unparse(argument) + (equals + ast.unparse(default) if default else "")


def function_text(node: ast.FunctionDef, owner: str = "") -> str:
    """Heading, signature, docstring."""
    name = f"{owner}.{node.name}" if owner else node.name
    heading = f"{'####' if owner else '###'} `{name}`"
    body = markdown(ast.get_docstring(node) or "")
    return "\n\n".join(part for part in (heading, signature(node, node.name), body) if part)


def class_text(node: ast.ClassDef, lines: list[str]) -> str:
    """Docstring, fields with their types and comments, public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    parts = [f"### `{node.name}`", f"Class, of {bases}." if bases else "Class."]
    parts.append(markdown(ast.get_docstring(node) or ""))
    fields = [x for x in node.body if isinstance(x, ast.AnnAssign)]
    fields = [textwrap.dedent("\n".join(lines[x.lineno - 1 : x.end_lineno])) for x in fields]
    fields = [text for text in fields if not text.startswith("_")]
    if fields:
        parts.append("```python\n" + "\n".join(fields) + "\n```")
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and _is_shown(method):
            parts.append(function_text(method, node.name))
    return "\n\n".join(part for part in parts if part)


def _is_shown(method: ast.FunctionDef) -> bool:
    return not method.name.startswith("_") or (
        method.name == "__call__" and ast.get_docstring(method) is not None
    )


def markdown(docstring: str) -> str:
    """Google-style sections as lists; all else as it stands."""
    lines, inside = [], False
    for line in docstring.replace("``", "`").splitlines():
        if line.strip() in _SECTIONS:
            inside = True
            lines += [f"**{line.strip().rstrip(':')}**", ""]
        elif inside and line.startswith("  ") and not line.startswith("   "):
            lines.append("- " + line.strip())
        elif inside and line.strip():
            lines.append("  " + line.strip() if line.startswith(" ") else line)
            inside = line.startswith(" ")
        else:
            lines.append(line)
    return textwrap.dedent("\n".join(lines)).strip()


def main() -> None:
    """Write all pages, and remove those that are no longer made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for path in folder.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
