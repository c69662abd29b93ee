"""`fap checkpoint`: what a file of prompts is; the authors' `.pth` as safetensors."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `checkpoint` to the `fap` parser."""
    parser = commands.add_parser(
        "checkpoint",
        help="say what a file of prompts is; convert the authors' .pth",
        examples=(
            "fap checkpoint runs/demo/training/prompts.safetensors",
            "fap checkpoint epoch_15.pth --to authors.safetensors",
        ),
    )
    parser.add_argument(
        "file", type=arguments.file, metavar="FILE", help="a checkpoint: the kit's, or the authors' .pth"
    )
    parser.add_argument(
        "--to",
        type=arguments.new_file,
        metavar="FILE",
        help="write it as a checkpoint of the kit (default: only say what it is)",
    )
    arguments.add_profile(parser, "paper", "; with --to, the CLIP the prompts belong to")
    parser.set_defaults(run=_checkpoint)


def _checkpoint(chosen: argparse.Namespace) -> None:
    from fap_lib.official.inspection import convert, describe

    told = describe(chosen.file)
    width = max(map(len, told))
    for name, value in told.items():
        print(f"{name:{width}}  {value}")
    if chosen.to:
        convert(chosen.file, chosen.to, chosen.profile)
        print(f"written to {chosen.to}")
