"""`fap paper`: a grid of runs, and the paper's tables."""

import argparse
import os

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `paper` to the `fap` parser."""
    parser = commands.add_parser(
        "paper",
        help="run a grid: many trainings and evaluations, and their tables",
        description="Runs what a grid's file asks for, with Snakemake. What is finished is reused.",
        examples=(
            "fap paper workflow/grids/mini.yaml",
            'fap paper workflow/grids/paper.yaml --snakemake="-n"    # the plan alone',
        ),
    )
    parser.add_argument(
        "grid", type=arguments.file, metavar="GRID", help="YAML file, such as workflow/grids/mini.yaml"
    )
    parser.add_argument(
        "--cores",
        type=arguments.whole(1),
        default=os.cpu_count(),
        metavar="N",
        help="for all jobs together; as many as this machine has",
    )
    arguments.add_run(parser, "grid-NAME")
    parser.add_argument(
        "--snakemake",
        type=arguments.words,
        default=[],
        metavar="OPTIONS",
        help='options of Snakemake, such as "-n" for the plan alone (default: none)',
    )
    parser.set_defaults(run=_paper, resumes=True)


def _paper(chosen: argparse.Namespace) -> int:
    import sys

    from fap_lib.grids.settings import read_grid

    read_grid(chosen.grid)

    # Only now what takes seconds to import.
    from fap_lib.grids.doctor import examine, table
    from fap_lib.grids.snakemake import PLAN_ONLY, paper

    findings = examine(chosen.grid)
    if PLAN_ONLY & set(chosen.snakemake) or any(each.state == "missing" for each in findings):
        # Everything that is missing at once; then the first missing thing ends the run.
        print(table(findings), file=sys.stderr)
    return paper(chosen.grid, chosen.cores, chosen.snakemake, chosen.folder)
