"""`fap mini`: draw the generated datasets, and pre-train the mini CLIP."""

import argparse
from pathlib import Path

from fap_lib import mini


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `mini` and its subcommands to the `fap` parser."""
    actions = commands.add_parser("mini", help="the generated datasets and the mini CLIP").add_subparsers(
        required=True, metavar="ACTION"
    )
    draw = actions.add_parser("draw", help="draw a generated dataset")
    draw.add_argument("name", help="such as mini-test, or mini-test-d2 for another draw of it")
    draw.add_argument("--to", type=Path, metavar="FOLDER", help="where (default: data/NAME)")
    draw.set_defaults(run=_draw)

    train = actions.add_parser("pretrain", help="train the mini CLIP from scratch")
    train.add_argument(
        "folder", type=Path, help="for images, state, log and weights; an interrupted run continues"
    )
    train.add_argument("--recipe", choices=(mini.MINI, mini.SILENT), default=mini.MINI)
    train.add_argument("--steps", type=int, help="instead of the recipe's")
    train.add_argument("--seed", type=int, help="another draw of images, order and initial weights")
    train.add_argument("--device", default="auto", help="cpu, cuda or auto")
    train.set_defaults(run=_pretrain)


def _draw(chosen: argparse.Namespace) -> None:
    from data_prep.mini import benchmark
    from fap_lib import paths

    manifest = benchmark.write(chosen.to or paths.data() / chosen.name, chosen.name)
    for split, records in manifest.splits.items():
        labels = [record.label for record in records]
        print(f"{manifest.name}, {split}: {labels.count(0)} normal, {labels.count(1)} anomalous")
    print(manifest.root)


def _pretrain(chosen: argparse.Namespace) -> None:
    from dataclasses import replace

    from data_prep.mini.pretrain import RECIPES, train
    from fap_lib.clip import device_name

    changes = {key: value for key in ("steps", "seed") if (value := getattr(chosen, key)) is not None}
    recipe = replace(RECIPES[chosen.recipe], **changes)
    print(train(chosen.folder.expanduser(), recipe, device_name(chosen.device)))
