"""`fap reproduce`: train on one dataset, test on others."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `reproduce` to the `fap` parser."""
    parser = commands.add_parser("reproduce", help="train prompts on one dataset and test them on others")
    parser.add_argument(
        "--data", type=arguments.folder, required=True, help="folder with raw or prepared datasets"
    )
    parser.add_argument("--train", type=arguments.name, required=True, metavar="NAME")
    parser.add_argument("--test", dest="tests", type=arguments.names, required=True, metavar="NAME,NAME")
    parser.add_argument(
        "--profile", type=arguments.profile, default="mini", help="mini (the default), paper or tiny"
    )
    parser.add_argument("--settings", type=arguments.file, help="YAML file with changes to the profile")
    parser.add_argument(
        "--run", dest="folder", type=arguments.new_folder, help="run folder (default: one below runs/)"
    )
    arguments.add_device(parser)
    parser.set_defaults(run=_reproduce)


def _reproduce(chosen: argparse.Namespace) -> None:
    from fap_lib.core.config import load_profile, load_yaml
    from fap_lib.runs.preparation import check_job

    settings = load_yaml(chosen.settings, "settings file") if chosen.settings else {}
    load_profile(chosen.profile, settings)
    check_job(chosen.train, chosen.tests, chosen.data)

    # Only now what takes seconds to import.
    from fap_lib.runs.reproduce import reproduce
    from fap_lib.runs.results import summary

    result = reproduce(
        chosen.data, chosen.train, chosen.tests, chosen.profile, settings, chosen.folder, chosen.device
    )
    for name in chosen.tests:
        print(f"{chosen.train} -> {name}")
        for row in summary([row for row in result.metrics if row["dataset"] == name]):
            print(f"  {row['level']:5}  {row['metric']:14} {row['%']:>9}  {row['definition']}")
    print(f"({result.label})\n{result.folder}")
