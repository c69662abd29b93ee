"""`fap reproduce`: train on one dataset, test on others."""

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `reproduce` to the `fap` parser."""
    parser = commands.add_parser("reproduce", help="train prompts on one dataset and test them on others")
    parser.add_argument("--data", type=Path, required=True, help="folder with raw or prepared datasets")
    parser.add_argument("--train", required=True, metavar="NAME")
    parser.add_argument("--test", required=True, metavar="NAME,NAME")
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--settings", type=Path, help="YAML file with changes to the profile")
    parser.add_argument("--run", dest="folder", type=Path, help="run folder (default: one below runs/)")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=_reproduce)


def _reproduce(chosen: argparse.Namespace) -> None:
    from fap_lib.core.config import load_yaml
    from fap_lib.runs.reproduce import reproduce
    from fap_lib.runs.results import summary

    settings = load_yaml(chosen.settings, "settings file") if chosen.settings else {}
    tests = [name.strip() for name in chosen.test.split(",") if name.strip()]
    result = reproduce(
        chosen.data, chosen.train, tests, chosen.profile, settings, chosen.folder, chosen.device
    )
    for name in tests:
        print(f"{chosen.train} -> {name}")
        for row in summary([row for row in result.metrics if row["dataset"] == name]):
            print(f"  {row['level']:5}  {row['metric']:14} {row['%']:>9}  {row['definition']}")
    print(f"({result.label})\n{result.folder}")
