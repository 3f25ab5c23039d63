"""``mvdust3r view``: what the drop page's job makes of its files and wishes."""

from types import SimpleNamespace

import pytest
from PIL import Image

from mvdust3r_jax import viewer
from mvdust3r_jax.cli import commands, inputs, view
from mvdust3r_jax.cli.console import Console


@pytest.fixture
def job(monkeypatch):
    """The job of ``mvdust3r view --max-views 4``, and the arguments of its reconstructions."""
    jobs, asked = [], []

    class Page:
        url, local_only = "", True

        def __init__(self, scenes, reconstruct, **_):
            jobs.append(reconstruct)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self):
            pass

    def reconstruct(sources, model, args, told, focal_px):
        asked.append((sources, args.reference))

    monkeypatch.setattr(viewer, "Viewer", Page)
    monkeypatch.setattr(inputs, "open_model", lambda args, console: None)
    monkeypatch.setattr(view, "_reconstruct", reconstruct)
    parser, _ = commands.command_parsers()
    view.run(parser.parse_args(["view", "--max-views", "4", "--port", "0"]), Console(quiet=True))
    return jobs[0], asked


@pytest.mark.parametrize("number", [0, 1, 6, 7])
def test_the_pages_reference_is_a_number_among_all_of_its_files(job, tmp_path, number):
    """`--max-views` leaves another photograph at that number, and maybe not the one meant."""
    run, asked = job
    paths = [tmp_path / f"{i}.jpg" for i in range(8)]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    wishes = SimpleNamespace(frames=4, reference=number, focal_px=None)
    run(paths, lambda share, stage: None, wishes)
    ((sources, reference),) = asked
    assert sources[reference] == paths[number]
    assert len(set(sources)) == 4 and sources == sorted(sources)
