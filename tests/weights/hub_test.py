"""Published weights by name: fetched from a small local hub, checked, pinned, converted once."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import eval as eval_program
from mvdust3r_jax import ModelConfig, load_model
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import hub, places, port, safetensors_file
from tests.weights.small_network import assert_equal, numbers

CONFIG = ModelConfig(16, 1, 2, 16, 2, 4, patch=4, skip=False, gaussians=False, conf_max=1e4)
COMMIT, LATER = "a" * 40, "b" * 40


class Hub(ThreadingHTTPServer):
    """A model hub: files by "OWNER/REPO/FILE", the commit of main, a line per request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.commit, self.asked, self.stated = {}, COMMIT, [], {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name, content):
        self.files[name] = content


class Answer(BaseHTTPRequestHandler):
    """HEAD and GET of /OWNER/REPO/resolve/REVISION/FILE, as the protocol has it for large files."""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        owner, repository, _, revision, file = self.path.lstrip("/").split("/", 4)
        name = f"{owner}/{repository}/{file}"
        self.server.asked.append((self.command, revision, name))
        content = self.server.files.get(name)
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            commit = self.server.commit if revision == "main" else revision
            stated = self.server.stated.get(name) or hashlib.sha256(content).hexdigest()
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{stated}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *_):
        """The test's output is not for requests."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Hub() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def variables():
    return numbers(CONFIG, 0)


@pytest.fixture
def release(server, variables, tmp_path):
    """The server with the file of MVDp_s2, of a small network."""
    weight_files.save_weights(tmp_path / "w.pth", variables, CONFIG, image_size=(32, 48))
    server.add("Zhenggang/MV-DUSt3R/checkpoints/MVDp_s2.pth", (tmp_path / "w.pth").read_bytes())
    return server


def test_a_name_is_the_published_network(release, variables):
    """Config, image size and every array; the license is said before the first byte."""
    told = []

    def say(text):
        told.append((text, [command for command, _, _ in release.asked]))

    path = places.find_weights("MVDp_s2", say)
    config, loaded = weight_files.load_weights(path)
    assert config == CONFIG and weight_files.trained_on(path).image_size == (32, 48)
    assert_equal(loaded, variables)
    assert "non-commercial" in told[0][0] and "GET" not in told[0][1]
    assert load_model("MVDp_s2").name == "MVDp_s2"
    assert eval_program.load_network("MVDp_s2", "").config == CONFIG


def test_the_second_time_nothing_is_asked_for(release):
    """Not even when the repository has moved on: the name stays the first download's commit."""
    first = places.find_weights("MVDp_s2", print)
    asked = len(release.asked)
    release.commit = LATER
    assert places.find_weights("MVDp_s2", print) == first
    assert len(release.asked) == asked
    assert json.loads(first.with_suffix(".record.json").read_text())["commit"] == COMMIT
    assert {p.name for p in first.parent.iterdir()} <= {
        *("MVDp_s2.safetensors", "MVDp_s2.record.json", "MVDp_s2.lock")
    }


def test_a_lost_file_is_fetched_at_the_recorded_commit(release):
    """And other bytes under that commit are refused."""
    first = places.find_weights("MVDp_s2", print)
    before = first.read_bytes()
    first.unlink()
    release.commit = LATER
    assert places.find_weights("MVDp_s2", print).read_bytes() == before
    assert {revision for _, revision, _ in release.asked} == {"main", COMMIT}
    first.unlink()
    release.files["Zhenggang/MV-DUSt3R/checkpoints/MVDp_s2.pth"] += b" "
    with pytest.raises(weight_files.WeightsError, match="came with SHA-256 .* expected"):
        places.find_weights("MVDp_s2", print)


def test_damaged_bytes_are_refused_and_not_kept(release):
    """What the server sends is not what it states: no file is left, the next time begins anew."""
    name = "Zhenggang/MV-DUSt3R/checkpoints/MVDp_s2.pth"
    release.stated[name] = "0" * 64
    with pytest.raises(weight_files.WeightsError, match="expected 0000"):
        places.find_weights("MVDp_s2", print)
    kept = [p.name for p in hub.cache_folder().rglob("*") if p.is_file()]
    assert kept == ["MVDp_s2.lock"]
    del release.stated[name]
    assert places.find_weights("MVDp_s2", print).is_file()


def test_a_cache_that_was_changed_is_refused(release):
    """One flipped bit of the converted file."""
    path = places.find_weights("MVDp_s2", print)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(weight_files.WeightsError, match="not what was written there; remove it"):
        places.find_weights("MVDp_s2", print)


def test_hub_files_with_arguments_beside_them(server, tmp_path):
    """PyTorch's names in safetensors: heads, clip and image size come from config.json."""
    config = ModelConfig(128, 2, 4, 64, 2, 2, patch=4, skip=False, gaussians=False)
    variables = numbers(config, 0)
    safetensors_file.write(tmp_path / "m.safetensors", port.flax_to_torch(variables, config), {})
    repository = "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear"
    server.add(f"{repository}/model.safetensors", (tmp_path / "m.safetensors").read_bytes())
    # As Python's json writes infinity, which the releases' clip is.
    arguments = {"conf_mode": ["exp", 1, float("inf")], "enc_num_heads": 4, "dec_num_heads": 2}
    arguments |= {"img_size": [24, 32], "pos_embed": "RoPE100"}
    server.add(f"{repository}/config.json", json.dumps(arguments).encode())
    path = places.find_weights("DUSt3R_224", print)
    found, loaded = weight_files.load_weights(path)
    assert (found.enc_heads, found.dec_heads, found.conf_max) == (4, 2, np.inf)
    assert weight_files.trained_on(path).image_size == (24, 32)
    assert_equal(loaded, variables)


def test_a_file_without_its_arguments_is_another_entry(server, tmp_path):
    """What config.json says holds for the name that reads it, not for the bare file."""
    config = ModelConfig(128, 2, 4, 64, 2, 2, patch=4, skip=False, gaussians=False)
    state = port.flax_to_torch(numbers(config, 0), config)
    safetensors_file.write(tmp_path / "m.safetensors", state, {})
    repository = "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear"
    server.add(f"{repository}/model.safetensors", (tmp_path / "m.safetensors").read_bytes())
    arguments = {"conf_mode": ["exp", 1, 50], "enc_num_heads": 4, "dec_num_heads": 2}
    server.add(f"{repository}/config.json", json.dumps(arguments).encode())
    bare = places.find_weights(f"hf:{repository}/model.safetensors", print)
    path = places.find_weights("DUSt3R_224", print)
    assert path != bare and weight_files.load_weights(path)[0].conf_max == 50


def test_any_file_at_a_revision(release):
    """hf:OWNER/REPO/FILE@REVISION asks for that revision; without one it is another name."""
    text = "hf:Zhenggang/MV-DUSt3R/checkpoints/MVDp_s2.pth"
    at_revision = places.find_weights(f"{text}@{LATER}", print)
    assert release.asked[0][1] == LATER
    assert places.find_weights(text, print) != at_revision


def test_files_of_one_stem_are_two_entries(release, variables, tmp_path):
    """Endings tell them apart, in whatever order they come; each stays as it was fetched."""
    weight_files.save_weights(tmp_path / "w.safetensors", numbers(CONFIG, 1), CONFIG)
    place = "Zhenggang/MV-DUSt3R/checkpoints/MVDp_s2"
    release.add(f"{place}.safetensors", (tmp_path / "w.safetensors").read_bytes())
    names = [f"hf:{place}.safetensors", f"hf:{place}.pth"]
    paths = [places.find_weights(name, print) for name in names]
    assert_equal(weight_files.load_weights(paths[0])[1], numbers(CONFIG, 1))
    assert_equal(weight_files.load_weights(paths[1])[1], variables)
    asked = len(release.asked)
    assert [places.find_weights(name, print) for name in names] == paths
    assert len(release.asked) == asked


@pytest.mark.parametrize("left", ["", "{", "[]", '{"file": "checkpoints/MVDp_s2.p'])
def test_a_damaged_record_is_no_record(release, left):
    """The file is fetched again and recorded anew."""
    path = places.find_weights("MVDp_s2", print)
    record = path.with_suffix(".record.json")
    whole = record.read_text()
    record.write_text(left)
    assert places.find_weights("MVDp_s2", print) == path and record.read_text() == whole


@pytest.mark.parametrize("text", ["hf:owner/file.pth", "hf:a/b/../c.pth", "hf:a/b/c.pth@", "hf:"])
def test_malformed_names(text):
    """The form that is expected is in the message; nothing outside the cache can be named."""
    with pytest.raises(weight_files.WeightsError, match="hf:OWNER/REPO/FILE.* got"):
        places.find_weights(text, print)


def test_a_folder_of_results_does_not_hide_a_network(release, tmp_path, monkeypatch):
    """One that is called as a published network is passed over, unless it holds weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MVDp_s2").mkdir()
    assert places.find_weights("MVDp_s2", print).is_relative_to(hub.cache_folder())
    (tmp_path / "MVDp_s2" / "config.json").touch()
    assert places.find_weights("MVDp_s2", print) == Path("MVDp_s2")


def test_without_a_connection_it_says_what_to_bring(server, monkeypatch):
    """One line: the file, its repository, and the place where the name is looked for first."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(weight_files.WeightsError) as refused:
        places.find_weights("MVDp_s2", print)
    place = hub.cache_folder() / "MVDp_s2.pth"
    message = str(refused.value)
    assert "\n" not in message and f"put it there as {place}" in message
    assert "checkpoints/MVDp_s2.pth of Zhenggang/MV-DUSt3R" in message
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"by hand")
    assert places.find_weights("MVDp_s2", print) == place


def test_a_file_that_is_not_there(server):
    """The repository or the file is missing: the same line, with the server's reason."""
    with pytest.raises(weight_files.WeightsError, match=r"hf:a/b/c\.pth cannot be fetched.*404"):
        places.find_weights("hf:a/b/c.pth", print)
