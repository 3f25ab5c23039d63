"""The documentation as a site: ``make docs`` writes it into build/docs.

Guides are the pages of this folder; README and model card are included from where they lie. The
reference is made from the docstrings, the command line's from what ``--help`` prints.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api"
sys.path.insert(0, str(ROOT))

project = "mvdust3r_jax"
copyright = "the mvdust3r_jax authors, Apache-2.0"
extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["checked.md"]
html_theme = "furo"
html_title = project
default_role = "code"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
# What flax adds to every module is documented there; the package's names, where their homes are.
autodoc_default_options = {
    "exclude-members": "parent, name, replace, setup, scope",
    "ignore-module-all": True,
}
apidoc_modules = [
    {
        "path": "../mvdust3r_jax",
        "destination": "api",
        "separate_modules": True,
        "module_first": True,
        "max_depth": 2,
    }
]


def write_commands() -> None:
    """``api/commands.md``: the help of every command, 100 columns wide."""
    os.environ.pop("MVDUST3R_WEIGHTS", None)  # it would be shown as the default
    os.environ["COLUMNS"] = "100"
    from mvdust3r_jax import cli

    helps = {name: p.format_help() for name, p in cli.command_parsers()[1].items()}
    parts = [f"## mvdust3r {name}\n\n```text\n{text.strip()}\n```" for name, text in helps.items()]
    API.mkdir(exist_ok=True)
    (API / "commands.md").write_text("\n\n".join(["# The command line", *parts]) + "\n")


def lead_to_the_site(app, *place_and_text) -> None:
    """Links to a file that is a page of another name here."""
    text = place_and_text[-1]
    text[0] = re.sub(r"\]\((\.\./)?weights/README\.md", "](model_card.md", text[0])


def setup(app) -> None:
    """Called by Sphinx."""
    write_commands()
    app.connect("source-read", lead_to_the_site)
    app.connect("include-read", lead_to_the_site)
