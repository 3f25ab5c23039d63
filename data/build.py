"""Builds data sets: ``python -m data.build rooms|rgbd|released --help``.

Each writes ``OUT/NAME/{frames,trajectories}/VERSION`` (TFDS, array_record) without TensorFlow; the
folder ``OUT/NAME`` is what the pipeline takes. ``choose`` writes only the choice of trajectories
of RGB-D folders, the small file by which a split is shared.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from data.overlap import Rule
from data.rgbd.builder import Rgbd
from data.rgbd.choice import Choice, Task
from data.rgbd.choose import choose, plan
from data.rgbd.compare import differences
from data.rgbd.layouts import LAYOUTS
from data.rgbd.splits import Splits
from data.stored.made_from import StaleDataError
from data.stored.write import write_dataset
from mvdust3r_jax import allotted
from mvdust3r_jax.cli import values

# Options and the fields of the rule that they set.
_RULE_FIELDS = {
    "lo": "lo",
    "hi": "hi",
    "inputs": "num_inputs",
    "targets": "num_targets",
    "step": "step",
    "radius": "radius_per_step_m",
    "trajectories": "max_trajectories",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data.build", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_rooms(commands.add_parser("rooms", help="procedural rooms, rendered here"))
    for name, text in (
        ("choose", "choose trajectories of RGB-D folders, write only the choice"),
        ("rgbd", "RGB-D folders; chooses trajectories unless --choice exists"),
    ):
        _add_rgbd(commands.add_parser(name, help=text), name)
    _add_released(commands.add_parser("released", help="published HDF5 trajectory files"))
    return parser


def _count(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        expected = "a whole number of at least 0 is expected"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return int(text)


# Pixels of a patch, the smallest view that a network takes.
_SHORTEST_SIDE = 16


def _short_side(text: str) -> int:
    """0, which keeps frames as they are, or the pixels of at least a patch."""
    if not text.isdecimal() or 0 < int(text) < _SHORTEST_SIDE:
        expected = f"0 or a whole number of at least {_SHORTEST_SIDE} is expected"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return int(text)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=values.local_path, required=True, help="folder of data sets")
    beam = parser.add_mutually_exclusive_group()
    beam.add_argument("--beam", type=_count, default=0, metavar="WORKERS", help=_BEAM_HELP)
    beam.add_argument("--beam_options", metavar="NAME=VALUE,...", default="", help=_OPTIONS_HELP)


_OPTIONS_HELP = "generate frames on any runner of Apache Beam: runner=DataflowRunner,project=..."
_BEAM_HELP = "generate frames on Apache Beam's local runner with this many workers"


def _add_rooms(parser: argparse.ArgumentParser) -> None:
    _add_out(parser)
    parser.add_argument("--train", type=_count, default=1000, help="trajectories to train on")
    parser.add_argument("--validation", type=_count, default=0)
    parser.add_argument("--test", type=_count, default=0)
    parser.add_argument(
        "--inputs", type=values.positive, default=8, help="input views of a trajectory"
    )
    parser.add_argument("--targets", type=_count, default=2, help="render-only views")
    parser.add_argument(
        "--size", type=values.positive, nargs=2, default=(240, 240), metavar=("H", "W")
    )


def _add_rgbd(parser: argparse.ArgumentParser, command: str) -> None:
    rule = Rule()
    parser.add_argument("--layout", choices=sorted(LAYOUTS), required=True)
    parser.add_argument(
        "--root", type=values.local_path, required=True, help="folder that holds the scenes"
    )
    parser.add_argument(
        "--choice", type=values.local_path, required=command == "choose", help="the choice file"
    )
    # None stands for the default, or for what a given choice says.
    parser.add_argument("--lo", type=float, help=f"(default: {rule.lo})")
    parser.add_argument("--hi", type=float, help=f"(default: {rule.hi})")
    parser.add_argument("--inputs", type=int, help=f"views (default: {rule.num_inputs})")
    parser.add_argument("--targets", type=int, help=f"views (default: {rule.num_targets})")
    parser.add_argument("--step", type=int, help=f"thinning of depth (default: {rule.step})")
    parser.add_argument("--radius", type=float, help=f"meters (default: {rule.radius_per_step_m})")
    parser.add_argument(
        "--trajectories", type=int, help=f"a scene (default: {rule.max_trajectories})"
    )
    parser.add_argument("--seed", type=_count, help="(default: 0)")
    for split in ("validation", "test"):
        group = parser.add_argument_group(f"{split} split", "rooms that are not trained on")
        group.add_argument(f"--{split}-scenes", nargs="*", default=(), help="by name")
        group.add_argument(f"--{split}-share", type=float, default=0.0, help="of all rooms, drawn")
        told = "of each scene that is trained on: this last share of its frames"
        group.add_argument(f"--{split}-tail", type=float, default=0.0, help=told)
    parser.add_argument("--processes", type=values.positive, default=allotted.cores())
    if command == "rgbd":
        _add_out(parser)
        parser.add_argument(
            "--short-side", type=_short_side, default=0, help="reduce frames (0: keep)"
        )


def _add_released(parser: argparse.ArgumentParser) -> None:
    _add_out(parser)
    parser.add_argument("--train", type=values.local_path, help="dps_train.h5")
    parser.add_argument("--test", type=values.local_path, help="dps_test.h5")
    parser.add_argument(
        "--root", type=values.local_path, required=True, help="where the recorded paths lie here"
    )
    parser.add_argument("--targets", type=_count, default=2, help="render-only views at the end")
    parser.add_argument(
        "--limit", type=values.positive, help="at most this many trajectories of each file"
    )
    parser.add_argument(
        "--validation-share",
        type=float,
        default=0.0,
        help="of the training file's rooms, for a validation split of their own",
    )


def _chosen(args: argparse.Namespace) -> Choice:
    path = args.choice or args.out / "choice.npz"
    known = Choice.load(path) if path.exists() else None
    tasks = _tasks(args, known if args.command == "rgbd" and args.choice else None)
    if known is not None:
        _check_choice(args, path, known, tasks)
        _say(f"using the choice in {path}")
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    choice = choose(tasks, path, processes=args.processes)
    _say(f"choice written to {path} ({path.stat().st_size} bytes)")
    return choice


def _tasks(args: argparse.Namespace, shared: Choice | None) -> list[Task]:
    """What would be chosen; what was not asked for is that of a shared choice, or the default."""
    base = shared.rule if shared else Rule()
    given = {field: getattr(args, name) for name, field in _RULE_FIELDS.items()}
    rule = dataclasses.replace(base, **{k: v for k, v in given.items() if v is not None})
    seed = args.seed if args.seed is not None else shared.seed if shared else 0
    return plan(args.layout, args.root, rule, seed=seed, splits=_splits(args))


def _splits(args: argparse.Namespace) -> Splits:
    names = [field.name for field in dataclasses.fields(Splits)]
    return Splits(**{name: getattr(args, name) for name in names})


def _check_choice(args: argparse.Namespace, path: Path, known: Choice, tasks: list[Task]) -> None:
    """StaleDataError for a choice that is not what was asked for.

    A choice that is given may be another's, from a copy of the folder: only what was asked for
    must agree. One that lies in the output folder is our own of an earlier run.
    """
    if args.command == "rgbd" and args.choice:
        asked = any(dataclasses.astuple(_splits(args)))
        wanted = {f"{task.split}/{task.name}" for task in tasks}
        options = [text for text in differences(known, tasks) if " -> " in text]
        if asked and known.sources and set(known.sources) != wanted:
            options.append("another split")
    else:
        options = differences(known, tasks)
    if options:
        raise StaleDataError(
            f"{path} was chosen otherwise ({'; '.join(options[:6])}); remove it to choose anew"
        )


def _report_choice(choice: Choice) -> None:
    for split, scenes in choice.scenes.items():
        count = sum(len(scene.trajectories) for scene in scenes.values())
        _say(f"{split}: {len(scenes)} scenes, {count} trajectories")
        for name, scene in scenes.items():
            for problem in scene.problems:
                _say(f"  {name}: {problem}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _rgbd(args: argparse.Namespace):
    choice = _chosen(args)
    _report_choice(choice)
    choice.check_any(args.choice or args.out / "choice.npz")
    common = {"root": args.root, "choice": choice, "short_side": args.short_side}
    return lambda config, **how: Rgbd(config=config, **common, **how)


def _released(args: argparse.Namespace):
    from data.released.builder import Released, list_files
    from data.released.reader import PathMap

    files = {name: getattr(args, name) for name in ("train", "test") if getattr(args, name)}
    if not files:
        raise SystemExit("expected --train or --test with a published HDF5 file")
    find = PathMap(args.root)
    listing = list_files(files, find, args.limit).with_validation(args.validation_share)
    for problem in listing.problems:
        _say(f"  passed over: {problem}")
    if not (args.out / Released.name).exists():
        listing.check_any(find)
    common = {"listing": listing, "find": find, "targets_each": args.targets}
    return lambda config, **how: Released(config=config, **common, **how)


def _rooms(args: argparse.Namespace):
    from data.rooms.builder import RoomsDataset

    counts = {name: getattr(args, name) for name in ("train", "validation", "test")}
    common = {
        "counts": {split: count for split, count in counts.items() if count},
        "num_inputs": args.inputs,
        "num_targets": args.targets,
        "height": args.size[0],
        "width": args.size[1],
        "known": {},
    }
    return lambda config, **how: RoomsDataset(config=config, **common, **how)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def _run(args: argparse.Namespace) -> None:
    if args.command == "choose":
        _report_choice(_chosen(args))
        return
    make = {"rgbd": _rgbd, "released": _released, "rooms": _rooms}[args.command](args)
    options = None
    if args.beam or args.beam_options:
        from data.stored.beam import local_options, options_from

        options = local_options(args.beam) if args.beam else options_from(args.beam_options)
    folder, skipped = write_dataset(
        lambda config: make(config, data_dir=args.out), beam_options=options
    )
    for problem in skipped:
        _say(f"  stored empty: {problem}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _say(f"{folder}: {size / 1e6:.1f} MB, {len(skipped)} frames stored empty")


if __name__ == "__main__":
    main()
