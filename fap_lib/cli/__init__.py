"""The `fap` command: each module adds one subcommand, a thin face over a function of the library.

A module imports what its command needs inside the function that runs it, so that `fap --help` and a refused
argument take no time.
"""

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
    parser = Parser(prog="fap", description="The FAPrompt kit.")
    parser.add_argument("--version", action="version", version=__version__)
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
    try:
        chosen = parser.parse_args(arguments)
        return chosen.run(chosen) or 0
    except KitError as error:
        print(f"fap: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fap: interrupted; the same command continues.", file=sys.stderr)
        return 130
