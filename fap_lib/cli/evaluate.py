"""`fap evaluate`: prompts that are there, on datasets; no training."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate` to the `fap` parser."""
    parser = commands.add_parser(
        "evaluate",
        help="test prompts (yours, or the authors' .pth) on datasets, without training",
        description="Tests prompts on datasets and compares the figures with reported ones. What is finished "
        "is reused.",
        examples=(
            "fap evaluate runs/demo/training/prompts.safetensors --data data --test mini-test",
            "fap evaluate visa.pth --data downloads --test mvtec,btad    # the authors' prompts",
        ),
    )
    parser.add_argument(
        "prompts", type=arguments.file, metavar="FILE", help="a checkpoint, or the authors' .pth"
    )
    arguments.add_datasets(parser)
    arguments.add_profile(parser, None, " (default: the one the prompts belong to)")
    arguments.add_settings(parser)
    arguments.add_run(parser, "evaluate-PROMPTS-on-TESTS")
    arguments.add_device(parser)
    parser.set_defaults(run=_evaluate, resumes=True)


def _evaluate(chosen: argparse.Namespace) -> None:
    from fap_lib.core.config import load_profile, load_yaml
    from fap_lib.runs.preparation import check_job

    settings = load_yaml(chosen.settings, "settings file") if chosen.settings else {}
    if chosen.profile:
        load_profile(chosen.profile, settings)
    check_job(None, chosen.tests, chosen.data)

    # Only now what takes seconds to import.
    from fap_lib.grids.verdicts import FILE, write_verdicts
    from fap_lib.official.inspection import line
    from fap_lib.runs.evaluate import evaluate_prompts
    from fap_lib.runs.results import summary

    print(line(chosen.prompts), flush=True)
    result = evaluate_prompts(
        chosen.prompts, chosen.data, chosen.tests, chosen.profile, settings, chosen.folder, chosen.device
    )
    verdicts = write_verdicts(result.folder, result.metrics)
    for name in chosen.tests:
        print(name)
        for row in summary([row for row in result.metrics if row["dataset"] == name]):
            print(f"  {row['level']:5}  {row['metric']:14} {row['%']:>9}  {row['definition']}")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts["verdict"].value_counts().items())
    print(f"Against reported values ({FILE}): {counts}.")
    for reason in verdicts["reason"].dropna().loc[lambda reasons: reasons != ""].unique():
        print(f"  {reason}")
    print(f"({result.label})\n{result.folder}")
