"""The `fap` command: each module adds one subcommand, a thin face over a function of the library.

A module imports what its command needs inside the function that runs it, so that `fap --help` and a refused
argument take no time.
"""

import argparse
import logging
import sys

from fap_lib import __version__
from fap_lib.cli import (
    checkpoint,
    demo,
    doctor,
    evaluate,
    export,
    lab,
    notebooks,
    official,
    paper,
    reproduce,
    score,
    weights,
)
from fap_lib.core.arguments import Parser
from fap_lib.core.errors import KitError
from fap_lib.runs import preparation


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0: done; 1: a comparison failed; 2: the input was wrong, said in one sentence."""
    chosen = argparse.Namespace()
    try:
        make_parser().parse_args(arguments, chosen)
        return chosen.run(chosen) or 0
    except KitError as error:
        print(f"fap: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # a cell that was cut off has nothing to add
        goes_on = "continues" if getattr(chosen, "resumes", False) else "starts over"
        print(f"fap: interrupted; the same command {goes_on}.", file=sys.stderr)
        return 130


def make_parser() -> Parser:
    """The parser of `fap` with all its commands."""
    parser = Parser(
        prog="fap",
        description="The FAPrompt kit: defects in images of things never seen before. "
        "Data, features and runs go to the repository, or below $FAP_HOME.",
        examples=(
            "fap demo                      # two minutes: train, test and report on generated images",
            "fap lab                       # the notebooks, as copies of your own",
            "fap score photos/             # scores and heat maps of your images",
            "fap score --help              # all about one command",
        ),
    )
    parser.add_argument("--version", action="version", version=__version__, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        demo,
        lab,
        score,
        evaluate,
        reproduce,
        paper,
        doctor,
        checkpoint,
        export,
        official,
        weights,
        notebooks,
        preparation,
    ):
        command.add_command(commands)
    return parser
