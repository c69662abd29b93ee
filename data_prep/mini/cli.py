"""`fap mini draw`: draw the generated datasets."""

import argparse

from data_prep.mini.sets import LARGEST, parse
from fap_lib.core import arguments


def add_commands(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
    """Add `mini draw` to the `fap` parser; returns the actions of `mini`."""
    actions = commands.add_parser(
        "mini",
        help="the generated datasets and the mini CLIP",
        examples=("fap mini draw mini-test", "fap mini pretrain --help"),
    ).add_subparsers(required=True, metavar="ACTION")
    draw = actions.add_parser(
        "draw",
        help="draw a generated dataset",
        examples=("fap mini draw mini-test", "fap mini draw mini-test-d2 --to other/"),
    )
    draw.add_argument(
        "name",
        type=arguments.name,
        metavar="NAME",
        help="such as mini-test, or mini-test-d2 for another draw of it",
    )
    draw.add_argument(
        "--scale",
        type=arguments.whole(1, LARGEST),
        metavar="N",
        help=f"draw images so many times as large, up to {LARGEST}, with defects as small as ever: NAME-xN "
        "(default: 1, or the name's)",
    )
    draw.add_argument("--to", type=arguments.new_folder, metavar="FOLDER", help="where (default: data/NAME)")
    draw.set_defaults(run=_draw)
    return actions


def _draw(chosen: argparse.Namespace) -> None:
    from fap_lib.core import paths

    wanted = parse(chosen.name)  # a mistyped name is refused before anything slow is loaded
    name = str(wanted._replace(scale=chosen.scale or wanted.scale))
    from data_prep.mini import benchmark

    manifest = benchmark.generate(chosen.to or paths.data() / name, name)
    for split, records in manifest.splits.items():
        labels = [record.label for record in records]
        print(f"{manifest.name}, {split}: {labels.count(0)} normal, {labels.count(1)} anomalous")
    print(manifest.root)
