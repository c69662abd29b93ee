"""The `fap` command: each module adds one subcommand, a thin face over a function of the library.

A module imports what its command needs inside the function that runs it, so that `fap --help` and a refused
argument take no time.
"""

import argparse
import errno
import logging
import os
import sys
import warnings

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
from fap_lib.core.files import unusable
from fap_lib.runs import preparation


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0: done; 1: a comparison failed; 2: the input was wrong, said in one sentence."""
    chosen = argparse.Namespace()
    # Libraries warn of what is odd about a damaged file before they give it up; the sentence says it all.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", "Detected pickle protocol")
    try:
        make_parser().parse_args(arguments, chosen)
        code = chosen.run(chosen) or 0
        if sys.stdout:
            sys.stdout.flush()  # here, where what is wrong with it can be said
        return code
    except KitError as error:
        print(f"fap: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            _drop_output()
            sentence: object = f"the output cannot be written ({error.strerror})."
        elif (sentence := unusable(error)) is None:
            raise
        print(f"fap: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # a cell that was cut off has nothing to add
        goes_on = "continues" if getattr(chosen, "resumes", False) else "starts over"
        print(f"fap: interrupted; the same command {goes_on}.", file=sys.stderr)
        return 130


def _drop_output() -> None:
    """Drop what is still to be printed where nothing can be: a reader ended (`fap data list | head`), or the
    disk is full. Python would stumble over it once more at the end."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> Parser:
    """The parser of `fap` with all its commands."""
    parser = Parser(
        prog="fap",
        description="The FAPrompt kit: defects in images of things never seen before. "
        "Data, features and runs go to the repository, or below $FAP_HOME.",
        examples=(
            "fap demo                      # a minute or two: train, test and report on generated images",
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
