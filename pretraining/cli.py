"""`fap mini pretrain`: train the mini CLIP from scratch."""

import argparse

from fap_lib.core import arguments

RECIPES = ("mini", "mini-silent")


def add_commands(actions: argparse._SubParsersAction) -> None:
    """Add `pretrain` to the actions of `fap mini`."""
    train = actions.add_parser("pretrain", help="train the mini CLIP from scratch")
    train.add_argument(
        "folder",
        type=arguments.new_folder,
        help="for images, state, log and weights; an interrupted run continues",
    )
    train.add_argument("--recipe", choices=RECIPES, default=RECIPES[0])
    train.add_argument("--steps", type=arguments.whole(1), help="instead of the recipe's")
    train.add_argument(
        "--seed", type=arguments.seed, help="another draw of images, order and initial weights"
    )
    arguments.add_device(train)
    train.set_defaults(run=_pretrain)


def _pretrain(chosen: argparse.Namespace) -> None:
    from dataclasses import replace

    from fap_lib.clip.backbone import device_name
    from pretraining.loop import RECIPES, train

    changes = {key: value for key in ("steps", "seed") if (value := getattr(chosen, key)) is not None}
    recipe = replace(RECIPES[chosen.recipe], **changes)
    print(train(chosen.folder, recipe, device_name(chosen.device)))
