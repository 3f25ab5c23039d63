"""The drop page: what it takes, what it refuses in a sentence, and the job that it starts."""

import io
import json
import os

import pytest
from PIL import Image

from mvdust3r_jax.media.photographs import read_photo
from tests.viewer.drop_page import animation, finish, jpeg, post, request, wait_for


def test_photographs_become_a_scene(drop_page):
    """Two uploads and a start: progress is told, the scene is shown under the files' names."""
    drop_page.gate.clear()
    for name in ("kitchen ü.jpg", "../../etc/passwd"):
        assert post(drop_page, "/photographs", jpeg(), name)[0] == 200
    assert post(drop_page, "/start")[0] == 200
    wait_for(lambda: drop_page.uploads.session.status["share"] == 0.5)
    assert request(drop_page, "GET", "/status")[1]["message"] == "half way"
    assert post(drop_page, "/photographs", jpeg())[0] == 409
    drop_page.gate.set()
    assert finish(drop_page)["state"] == "done"
    assert drop_page.view.scene.names == ["kitchen ü.jpg", "passwd"]
    assert drop_page.view.title == "kitchen ü.jpg and 1 more"
    folder = drop_page.given[0][0].parent
    assert len(os.listdir(folder)) == 2  # for downloads, until the next job


def test_failed_job_is_told_and_the_next_one_runs(drop_page):
    """An error in the job becomes the status message; another upload works afterwards."""
    for count, state in ((3, "failed"), (2, "done")):
        post(drop_page, "/clear")
        for number in range(count):
            post(drop_page, "/photographs", jpeg(), f"{number}.jpg")
        post(drop_page, "/start")
        status = finish(drop_page)
        assert status["state"] == state
        assert count == 2 or status["message"] == "1.jpg is too odd, as 2.jpg is"
    assert drop_page.view.scene is not None


def test_a_video_that_arrives_while_a_job_fails_is_not_lost(drop_page, tmp_path):
    """Its upload began before the job did; it stands behind what the job gives back."""
    session = drop_page.uploads.session
    for number in range(3):
        post(drop_page, "/photographs", jpeg(), f"{number}.jpg")

    class Slow(io.FileIO):
        def read(self, size=-1):
            if self.tell() == 0:
                drop_page.gate.clear()
                session.start()
            return super().read(size)

    (tmp_path / "walk.mp4").write_bytes(b"video")
    with Slow(tmp_path / "walk.mp4") as stream:
        session.add_video("walk.mp4", stream, 5)
    drop_page.gate.set()
    assert finish(drop_page)["state"] == "failed"
    assert session.status["photographs"] == 4


def test_a_video_whose_upload_stalls_leaves_nothing(drop_page, tmp_path):
    """Its part is not kept until the viewer ends."""
    session = drop_page.uploads.session

    class Stalls(io.FileIO):
        def read(self, size=-1):
            if self.tell():
                raise TimeoutError("timed out")
            return super().read(3)

    (tmp_path / "walk.mp4").write_bytes(b"video")
    with Stalls(tmp_path / "walk.mp4") as stream, pytest.raises(TimeoutError):
        session.add_video("walk.mp4", stream, 5)
    assert os.listdir(session._folder.name) == []


def test_order_and_options_reach_the_job(drop_page):
    """Files in the order asked for, some left out; the reference, the focal length, the frames."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        post(drop_page, "/photographs", jpeg(), name)
    asked = {"order": [2, 0], "reference": 1, "focal": 1480, "frames": 6}
    assert post(drop_page, "/start", json.dumps(asked))[0] == 200
    assert finish(drop_page)["state"] == "done"
    assert drop_page.view.scene.names == ["c.jpg", "a.jpg"]
    assert drop_page.asked == [(1, 1480, 6)]


@pytest.mark.parametrize(
    "asked",
    [
        "no JSON",
        [],
        {"order": [0, 0]},
        {"order": [7]},
        {"order": "all"},
        {"reference": 2},
        {"reference": "../x"},
        {"focal": -1},
        {"focal": True},
        {"frames": 10**9},
    ],
)
def test_impossible_wishes_are_refused(drop_page, asked):
    """With a sentence, and nothing is started; the photographs are still there."""
    for _ in range(2):
        post(drop_page, "/photographs", jpeg())
    status, content = post(drop_page, "/start", json.dumps(asked).replace('"no JSON"', "{"))
    assert status == 400 and content["error"]
    assert drop_page.uploads.session.status["photographs"] == 2


def test_orders_that_no_reader_takes_are_refused(drop_page):
    """Deep nesting, and a length of thousands of digits, have an answer as others have."""
    assert post(drop_page, "/start", b"[" * 16_000)[0] == 400
    headers = {"X-Token": drop_page.uploads.token, "Content-Length": "9" * 5000}
    assert request(drop_page, "POST", "/start", None, **headers)[0] == 413


def test_a_job_can_be_canceled_and_started_again(drop_page):
    """It stops when it next tells how far it is; its photographs are still there."""
    drop_page.gate.clear()
    for _ in range(2):
        post(drop_page, "/photographs", jpeg())
    post(drop_page, "/start")
    wait_for(lambda: drop_page.uploads.session.status["share"] == 0.5)
    assert post(drop_page, "/cancel")[1]["message"] == "will stop after this step"
    drop_page.gate.set()
    assert finish(drop_page)["state"] == "canceled" and drop_page.view.scene is None
    assert post(drop_page, "/start")[0] == 200
    assert finish(drop_page)["state"] == "done"


def test_a_video_instead_of_photographs(drop_page):
    """One is enough; its name's ending must be a video's, and frames are called as it is."""
    assert post(drop_page, "/videos", b"0" * 5000, "walk.txt")[0] == 415
    assert post(drop_page, "/videos", b"0" * 5000, "walk.mp4")[0] == 200
    assert post(drop_page, "/start", json.dumps({"frames": 5}))[0] == 200
    assert finish(drop_page)["state"] == "done"
    ((kept,),) = drop_page.given
    assert kept.suffix == ".mp4" and kept.stat().st_size == 5000


def test_pages_take_what_the_command_line_takes(drop_page):
    """Every format by its content, whatever the name; several pictures, where one is the main."""
    for kind in ("PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF"):
        assert post(drop_page, "/photographs", jpeg(kind=kind))[0] == 200
        assert post(drop_page, "/clear")[0] == 200
    buffer = io.BytesIO()
    first = Image.new("RGB", (8, 6))
    first.save(buffer, "MPO", save_all=True, append_images=[first])
    for _ in range(2):
        assert post(drop_page, "/photographs", buffer.getvalue(), "a.jpg")[0] == 200
    assert post(drop_page, "/start")[0] == 200 and finish(drop_page)["state"] == "done"
    (kept,) = drop_page.given
    assert [path.suffix for path in kept] == [".mpo"] * 2
    assert read_photo(kept[0]).original_size == (6, 8)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 415, "not a picture"),
        (b"hello", 415, "not a picture"),
        (jpeg()[:40], 415, "not a picture"),
        (animation(), 415, "an animation of 2 pictures"),
        (jpeg(500, 300, "PNG"), 413, "500 x 300"),
        (bytes(20_001), 413, "20,001 bytes"),
    ],
    ids=["empty", "text", "truncated", "animation", "too many pixels", "too many bytes"],
)
def test_bad_photographs_are_refused(drop_page, body, status, words):
    """What is no acceptable picture gets its HTTP error with one sentence, and is not kept."""
    code, content = post(drop_page, "/photographs", body)
    assert code == status and words in content["error"]
    assert drop_page.uploads.session.status["photographs"] == 0


def test_number_of_photographs_is_limited(drop_page):
    """One more than the limit is refused; too few do not start; clearing starts anew."""
    for _ in range(4):
        assert post(drop_page, "/photographs", jpeg())[0] == 200
    assert post(drop_page, "/photographs", jpeg())[0] == 409
    assert post(drop_page, "/clear")[1]["photographs"] == 0
    code, content = post(drop_page, "/start")
    assert code == 400 and "at least two" in content["error"]
