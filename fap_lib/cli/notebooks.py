"""`fap notebooks`: run the notebooks and store their outputs."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `notebooks` to the `fap` parser."""
    parser = commands.add_parser(
        "notebooks",
        help="run the notebooks and store their outputs in them",
        description="Runs notebooks of the kit on the mini profile, tries the solutions of their exercises, "
        "and stores what they print and draw. Some read what `fap demo` left.",
        examples=("fap notebooks", "fap notebooks 02_compound_prompts 03_abnormality_prior"),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02_compound_prompts; default: all")
    parser.set_defaults(run=_notebooks)


def _notebooks(chosen: argparse.Namespace) -> None:
    from fap_lib.lessons.outputs import store

    store(chosen.names)
