"""`fap mini pretrain`: train the mini CLIP from scratch."""

import argparse

from fap_lib.core import arguments

RECIPES = ("mini", "mini-silent")


def add_commands(actions: argparse._SubParsersAction) -> None:
    """Add `pretrain` to the actions of `fap mini`."""
    train = actions.add_parser(
        "pretrain",
        help="train the mini CLIP from scratch",
        examples=("fap mini pretrain build/mini", "fap mini pretrain build/silent --recipe mini-silent"),
    )
    train.add_argument(
        "folder",
        type=arguments.new_folder,
        metavar="FOLDER",
        help="for images, state, log and weights; an interrupted run continues",
    )
    train.add_argument(
        "--recipe",
        choices=RECIPES,
        default=RECIPES[0],
        help="mini-silent: with state words that are wrong as often as right",
    )
    train.add_argument("--steps", type=arguments.whole(1), metavar="N", help="default: the recipe's")
    train.add_argument(
        "--seed",
        type=arguments.seed,
        metavar="N",
        help="of images, order and initial weights (default: the recipe's)",
    )
    arguments.add_device(train)
    train.set_defaults(run=_pretrain, resumes=True)


def _pretrain(chosen: argparse.Namespace) -> None:
    from dataclasses import replace

    from fap_lib.clip.backbone import device_name
    from pretraining.loop import train
    from pretraining.recipes import RECIPES

    changes = {key: value for key in ("steps", "seed") if (value := getattr(chosen, key)) is not None}
    recipe = replace(RECIPES[chosen.recipe], **changes)
    print(train(chosen.folder, recipe, device_name(chosen.device)))
