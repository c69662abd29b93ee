"""`fap reproduce`: train on one dataset, test on others."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `reproduce` to the `fap` parser."""
    parser = commands.add_parser(
        "reproduce",
        help="train prompts on one dataset and test them on others",
        description="Prepares the datasets, extracts features, trains prompts and tests them. What is "
        "finished is reused, and an interrupted training continues.",
        examples=(
            "fap reproduce --data data --train mini-a --test mini-test",
            "fap reproduce --data downloads --train mvtec --test visa,btad --profile paper",
        ),
    )
    arguments.add_datasets(parser)
    parser.add_argument(
        "--train", type=arguments.name, required=True, metavar="NAME", help="the dataset to learn on; needed"
    )
    arguments.add_profile(parser, "mini")
    arguments.add_settings(parser)
    arguments.add_run(parser, "TRAIN-to-TESTS-PROFILE-MODE-seedN")
    arguments.add_device(parser)
    parser.set_defaults(run=_reproduce, resumes=True)


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
