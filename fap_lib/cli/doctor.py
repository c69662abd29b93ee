"""`fap doctor`: what this machine lacks for a grid, everything at once."""

import argparse

from fap_lib.core import arguments, paths


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `doctor` to the `fap` parser."""
    parser = commands.add_parser(
        "doctor",
        help="what is missing for a grid: weights, datasets, disk, time",
        description="Lists everything that this machine lacks for a grid, and how to get it.",
        examples=("fap doctor", "fap doctor workflow/grids/mini.yaml --json"),
    )
    parser.add_argument(
        "grid",
        type=arguments.file,
        nargs="?",
        default=paths.WORKFLOW / "grids" / "paper.yaml",
        metavar="GRID",
        help="YAML file (default: the paper's grid)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts (default: a table)")
    parser.set_defaults(run=_doctor)


def _doctor(chosen: argparse.Namespace) -> int:
    """1 if the grid could not run."""
    import json
    from dataclasses import asdict

    from fap_lib.grids.settings import read_grid

    read_grid(chosen.grid)

    # Only now what takes seconds to import.
    from fap_lib.grids.doctor import examine, table

    findings = examine(chosen.grid)
    if chosen.json:
        print(json.dumps([asdict(each) for each in findings], indent=2, ensure_ascii=False))
    else:
        print(table(findings))
    return int(any(each.state == "missing" for each in findings))
