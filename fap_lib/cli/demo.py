"""`fap demo`: the main job on generated images."""

import argparse
import time


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `demo` to the `fap` parser."""
    parser = commands.add_parser(
        "demo",
        help="the main job on generated images, without any download",
        description="Draws a small world of images, learns prompts on six categories, looks for defects "
        "in eight others, and writes runs/demo/report.html. What is finished is reused.",
        examples=("fap demo", "FAP_HOME=/tmp/kit fap demo    # everything below another folder"),
    )
    parser.set_defaults(run=_demo, resumes=True)


def _demo(_: argparse.Namespace) -> None:
    from fap_lib.evaluation.scoring import MEAN
    from fap_lib.runs.reproduce import demo

    start = time.perf_counter()
    result = demo()
    means = {(row["level"], row["metric"]): row["value"] for row in result.metrics if row["category"] == MEAN}
    shown = (
        ("image AUROC", "image", "auroc"),
        ("pixel AUROC", "pixel", "auroc"),
        ("AUPRO", "pixel", "aupro_official"),
    )
    figures = ", ".join(f"{title} {100 * means[level, name]:.1f}" for title, level, name in shown)
    print(f"{result.folder}\nNote: {result.label}.")
    print(f"FAPrompt {result.profile}: {figures}, seconds {time.perf_counter() - start:.0f}")
