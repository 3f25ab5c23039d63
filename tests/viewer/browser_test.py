"""The viewer in a real browser: the page loads, draws the scene, and the slider changes it.

Skipped where Chromium or Node with playwright-core is missing (the folder that holds it can be
named by PLAYWRIGHT_CORE).
"""

import dataclasses
import json
import zipfile

import numpy as np
import plyfile
import pytest
from PIL import Image

from mvdust3r_jax.export.html import write_html
from mvdust3r_jax.viewer import Viewer
from tests.export_scene import box_room
from tools import browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "-"),
]


def read(path):
    """A screenshot as an integer array [h, w, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


# `shotWhen(what, path, box, holds)` takes screenshots of a page or element until the share of
# colored pixels in the box (left, top, right, bottom) holds what is asked, or 100 seconds are over:
# drawing in software takes as long as the machine is busy, so no fixed wait is right.
SHOT = """
const judge = await browser.newPage();
const coloredShare = (png, box) => judge.evaluate(async ([base64, [left, top, right, bottom]]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
  const drawing = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  drawing.drawImage(bitmap, 0, 0);
  const width = (right ?? bitmap.width) - left;
  const height = bottom > 0 ? bottom - top : bitmap.height + bottom - top;
  const { data } = drawing.getImageData(left, top, width, height);
  let colored = 0;
  for (let i = 0; i < data.length; i += 4) {
    const rgb = [data[i], data[i + 1], data[i + 2]];
    colored += Math.max(...rgb) - Math.min(...rgb) > 25;
  }
  return colored / (width * height);
}, [png.toString("base64"), box]);
const shotWhen = async (what, path, box, holds) => {
  const end = Date.now() + 100000;
  for (;;) {
    const share = await coloredShare(await what.screenshot({path}), box);
    if (holds(share)) return share;
    if (Date.now() > end) throw new Error(`${path}: the colored share stays at ${share}`);
    await page.waitForTimeout(500);
  }
};
"""


def test_viewer_page_shows_the_scene_and_obeys_the_slider(tmp_path):
    """Colored points are drawn; the slider hides most of them; uploads are reconstructed."""
    photographs, asked = [], []
    for index in range(2):
        photographs.append(tmp_path / f"{index}.png")
        Image.new("RGB", (40, 30), "olive").save(photographs[-1])

    def reconstruct(paths, progress, wishes):
        progress(0.5, "working")
        asked.append(wishes)
        return box_room(len(paths))

    scene = box_room(3, height=96, width=128)
    with Viewer(scene, reconstruct=reconstruct, port=0) as viewer:
        script = f"""{SHOT}
await page.goto("{viewer.url}/");
const frame = await (await page.waitForSelector("iframe")).contentFrame();
await frame.getByText("of 36,864 points").waitFor();
await frame.getByLabel("Cameras").evaluate((box) => box.click());
const part = [0, 220, 580, 640];  // left of the panel, below the note on software rendering
await shotWhen(page, "{tmp_path}/all.png", part, (share) => share > 0.1);
const number = frame.locator("input[inputmode]").first();
await number.fill("99");
await number.press("Enter");
await frame.getByText("369 of 36,864 points").waitFor();
await shotWhen(page, "{tmp_path}/few.png", part, (share) => share < 0.03);
await page.setInputFiles("#files", {json.dumps([str(p) for p in photographs])});
await page.getByLabel("earlier 1.png").click();
await page.selectOption("#reference", {{label: "0.png"}});
await page.selectOption("#focal", "px");
await page.fill("#focal-px", "1480");
await page.screenshot({{path: "{tmp_path}/chosen.png"}});
await page.click("#start");
await frame.getByText("of 3,072 points").waitFor();
await page.getByText("2 views reconstructed").waitFor();
said.title = await page.title();
await frame.getByText("Download", {{exact: true}}).click();
await page.waitForTimeout(1000);
said.files = [];
for (const label of ["Points (PLY)", "COLMAP (zip)"]) {{
  const [download] = await Promise.all([page.waitForEvent("download"),
    frame.getByRole("button", {{name: label}}).click()]);
  const path = `{tmp_path}/${{download.suggestedFilename()}}`;
  await download.saveAs(path);
  said.files.push(path);
}}
await page.screenshot({{path: "{tmp_path}/downloads.png"}});
"""
        said = browser.drive(script, tmp_path)
        assert viewer.view.scene.names == ["1.png", "0.png"]
        mask = viewer.view.cloud.shown_scene()[1]
    assert asked == [(1, 1480, 12)] and said["title"] == "1.png and 1 more"
    points, colmap = said["files"]
    assert len(plyfile.PlyData.read(points)["vertex"]) == mask.sum()
    assert "colmap/images/0.png.jpg" in zipfile.ZipFile(colmap).namelist()
    assert said["errors"] == [] and said["outside"] == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_html_page_turns_whatever_axis_is_down(tmp_path, axis):
    """With known poses the world's own down axis may be any: dragging and keys turn the camera."""
    turn = np.roll(np.eye(3), axis, axis=0)  # sends y to any axis; a rotation
    scene = box_room(3, height=24, width=32)
    poses = scene.world_from_cam.copy()
    poses[:, :3] = turn @ poses[:, :3]
    scene = dataclasses.replace(
        scene,
        points=(scene.points @ turn.T).astype(np.float32),
        world_from_cam=poses.astype(np.float32),
        world_is_reference=False,
    )
    write_html(tmp_path / "p.html", scene)
    script = f"""
await page.goto("file://{tmp_path}/p.html");
await page.waitForTimeout(500);
said.forward = [await page.evaluate("[...camera.forward]")];
await page.mouse.move(300, 200);
await page.mouse.down();
await page.mouse.move(400, 200, {{steps: 5}});
await page.mouse.up();
said.forward.push(await page.evaluate("[...camera.forward]"));
for (let i = 0; i < 8; i++) await page.keyboard.press("ArrowLeft");
said.forward.push(await page.evaluate("[...camera.forward]"));
for (let i = 0; i < 60; i++) await page.keyboard.press("ArrowDown");
said.forward.push(await page.evaluate("[...camera.forward]"));
said.eye = [await page.evaluate("[...camera.eye]")];
await page.keyboard.press("w");
await page.keyboard.press("+");
said.eye.push(await page.evaluate("[...camera.eye]"));
said.down = await page.evaluate("data.down");
"""
    said = browser.drive(script, tmp_path)
    forward = np.array(said["forward"])
    angles = np.degrees(np.arccos((forward[1:] * forward[:-1]).sum(axis=1)))
    assert (angles > 20).all(), angles
    assert abs(forward[-1] @ said["down"]) < 0.99, "over the pole"
    assert not np.allclose(*said["eye"]) and said["errors"] == []


def test_html_page_draws_points_and_flies(tmp_path):
    """The exported page, opened from disk, draws points; the slider empties it; a click flies."""
    write_html(tmp_path / "p.html", box_room(3, height=96, width=128))
    script = f"""{SHOT}
await page.goto("file://{tmp_path}/p.html");
await page.waitForTimeout(1500);
await page.locator("#cameras").uncheck();
const canvas = page.locator("#canvas");
const part = [0, 0, undefined, -60];  // above the bar of controls
await shotWhen(canvas, "{tmp_path}/all.png", part, (share) => share > 0.2);
await page.locator(".card").nth(2).click();
await page.waitForTimeout(3000);
await canvas.screenshot({{path: "{tmp_path}/flown.png"}});
await page.locator("#confidence").fill("99");
said.shown = await page.textContent("#shown");
await shotWhen(canvas, "{tmp_path}/few.png", part, (share) => share < 0.05);
"""
    said = browser.drive(script, tmp_path)
    assert said["errors"] == [] and said["outside"] == []
    assert 0 < int(said["shown"].replace(",", "")) < 500
    before, flown = (read(tmp_path / f"{name}.png") for name in ("all", "flown"))
    assert np.abs(flown - before).mean() > 5
