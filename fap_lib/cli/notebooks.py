"""`fap notebooks`: run the notebooks and store their outputs."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `notebooks` to the `fap` parser."""
    parser = commands.add_parser("notebooks", help="run the notebooks and store their outputs in them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02_compound_prompts; default: all")
    parser.set_defaults(run=_notebooks)


def _notebooks(chosen: argparse.Namespace) -> None:
    from fap_lib.lessons.outputs import store

    store(chosen.names)
