"""A headless Chromium, driven by playwright-core scripts: for tests and pictures of pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NODE = shutil.which("node")
# The folder that holds it can be named by this variable.
PLAYWRIGHT = Path(os.environ.get("PLAYWRIGHT_CORE", "/opt/playwright/node_modules/playwright-core"))

_PRELUDE = """
import { chromium } from "%(playwright)s/index.mjs";
const browser = await chromium.launch({executablePath: "%(chromium)s", args: ["--no-sandbox",
  "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-first-run"]});
const page = await browser.newPage({viewport: {width: %(width)d, height: %(height)d}});
page.setDefaultTimeout(%(timeout_ms)d);
const said = {errors: [], outside: []};
page.on("pageerror", (error) => said.errors.push(error.message));
page.on("request", (request) => {
  const url = new URL(request.url());
  if (["http:", "https:", "ws:"].includes(url.protocol) && url.hostname !== "127.0.0.1")
    said.outside.push(request.url());
});
"""
_POSTLUDE = """
await browser.close();
console.log(JSON.stringify(said));
"""


def missing() -> str:
    """What a browser test lacks here, "" for nothing."""
    if CHROMIUM is None:
        return "Chromium is not installed"
    if NODE is None or not (PLAYWRIGHT / "index.mjs").is_file():
        return "Node with playwright-core is not installed"
    return ""


def drive(
    script: str, folder: Path, *, size: tuple[int, int] = (900, 640), timeout_s: float = 300
) -> dict:
    """Run a script with ``page`` open in a window of this (width, height).

    Returns what the script put into ``said``; errors of the page, and requests that left this
    machine, stand in its ``errors`` and ``outside``. RuntimeError if the script fails.
    """
    names = {"playwright": PLAYWRIGHT, "chromium": CHROMIUM, "width": size[0], "height": size[1]}
    # Of one step of the script: its message says which.
    names["timeout_ms"] = 1000 * timeout_s / 2
    path = folder / "drive.mjs"
    path.write_text(_PRELUDE % names + script + _POSTLUDE)
    command = [NODE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
