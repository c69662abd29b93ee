"""`fap paper`: a grid of runs, and the paper's tables."""

import argparse
import os

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `paper` to the `fap` parser."""
    parser = commands.add_parser("paper", help="run a grid: many trainings and evaluations, and their tables")
    parser.add_argument("grid", type=arguments.file, help="YAML file, such as workflow/grids/mini.yaml")
    parser.add_argument(
        "--cores", type=arguments.whole(1), default=os.cpu_count(), help="for all jobs together"
    )
    parser.add_argument(
        "--run", dest="folder", type=arguments.new_folder, help="grid folder (default: one below runs/)"
    )
    parser.add_argument(
        "--snakemake",
        type=arguments.words,
        default=[],
        help='options of Snakemake: --snakemake="-n" shows the plan',
    )
    parser.set_defaults(run=_paper)


def _paper(chosen: argparse.Namespace) -> int:
    import sys

    from fap_lib.grids.doctor import examine, table
    from fap_lib.grids.snakemake import PLAN_ONLY, paper

    findings = examine(chosen.grid)
    if PLAN_ONLY & set(chosen.snakemake) or any(each.state == "missing" for each in findings):
        # Everything that is missing at once; then the first missing thing ends the run.
        print(table(findings), file=sys.stderr)
    return paper(chosen.grid, chosen.cores, chosen.snakemake, chosen.folder)
