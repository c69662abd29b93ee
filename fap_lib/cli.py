"""The `fap` command: each subcommand is a thin face over a function of the library."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from fap_lib import __version__
from fap_lib.errors import KitError


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0: done; 1: a comparison failed; 2: the input was wrong, said in one sentence."""
    parser = argparse.ArgumentParser(prog="fap", description="The FAPrompt kit.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_score(commands)
    _add_reproduce(commands)
    _add_paper(commands)
    _add_parity(commands)
    _add_ledger(commands)
    _add_weights(commands)
    _add_notebooks(commands)

    from data_prep import cli as data_cli
    from data_prep.mini import cli as mini_cli

    data_cli.add_commands(commands)
    mini_cli.add_commands(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except KitError as error:
        print(f"fap: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fap: interrupted; the same command continues.", file=sys.stderr)
        return 130


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("demo", help="the main job on generated images, without any download")
    parser.set_defaults(run=_demo)


def _demo(_: argparse.Namespace) -> None:
    from fap_lib.reproduce import demo
    from fap_lib.scoring import MEAN

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


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("score", help="scores and heat maps for a folder of your images")
    parser.add_argument("images", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--prompts",
        default="paper",
        help="paper or released, which ship with the profile mini, or a checkpoint",
    )
    parser.add_argument("--profile", default="mini")
    parser.add_argument(
        "--normal", type=Path, metavar="FOLDER", help="normal images, to choose a threshold by"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="share of normal images that may be flagged"
    )
    parser.add_argument("--run", dest="folder", type=Path, help="run folder (default: one below runs/)")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=_score)


def _score(chosen: argparse.Namespace) -> None:
    import csv

    from fap_lib.own import score_folder
    from fap_lib.results import SCORES

    folder = score_folder(
        chosen.images,
        chosen.prompts,
        chosen.profile,
        chosen.normal,
        chosen.alpha,
        chosen.folder,
        chosen.device,
    )
    with open(folder / SCORES, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:5]:
        print(f"{float(row['score']):.3f}  {row['image']}")
    flagged = sum(row["flagged"] == "yes" for row in rows)
    said = f", {flagged} flagged" if chosen.normal else ", no threshold (give normal images with --normal)"
    print(f"{len(rows)} images{said}\n{folder}")


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
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
    from fap_lib.config import load_yaml
    from fap_lib.reproduce import reproduce
    from fap_lib.results import summary

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


def _add_paper(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("paper", help="run a grid: many trainings and evaluations, and their tables")
    parser.add_argument("grid", type=Path, help="YAML file, such as workflow/grids/mini.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="for all jobs together")
    parser.add_argument("--run", dest="folder", type=Path, help="grid folder (default: one below runs/)")
    parser.add_argument(
        "--snakemake", default="", help='options of Snakemake: --snakemake="-n" shows the plan'
    )
    parser.set_defaults(run=_paper)


def _paper(chosen: argparse.Namespace) -> int:
    from fap_lib.batch import paper

    return paper(chosen.grid, chosen.cores, shlex.split(chosen.snakemake), chosen.folder)


def _add_parity(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("parity", help="compare the kit with the official code's outputs")
    parser.add_argument("file", help="an .npz file of official outputs")
    parser.set_defaults(run=_parity)


def _parity(chosen: argparse.Namespace) -> int:
    from fap_lib import parity

    return parity.main([chosen.file])


def _add_ledger(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("ledger", help="list the differences between paper and released code")
    parser.set_defaults(run=_ledger)


def _ledger(_: argparse.Namespace) -> None:
    from fap_lib.ledger import rows

    for row in rows():
        setting = row.setting or "no setting"
        print(f"{row.id}  ({setting}; default as {row.default})")
        print(f"  paper:    {row.paper}\n  released: {row.released} [{row.where}]\n  why:      {row.why}\n")


def _add_notebooks(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("notebooks", help="run the notebooks and store their outputs in them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02_compound_prompts; default: all")
    parser.set_defaults(run=_notebooks)


def _notebooks(chosen: argparse.Namespace) -> None:
    from fap_lib.stored import store

    store(chosen.names)


def _add_weights(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("weights", help="write a CLIP's weights as a safetensors file")
    parser.add_argument("backbone", help="an open_clip architecture, such as ViT-L-14-336-quickgelu")
    parser.add_argument("--from", dest="source", help="a weights file (default: OpenAI's weights)")
    parser.add_argument("--to", type=Path, help="target (default: BACKBONE.safetensors in models/)")
    parser.set_defaults(run=_weights)


def _weights(chosen: argparse.Namespace) -> None:
    from fap_lib import paths
    from fap_lib.clip import load_backbone, save_weights

    target = chosen.to or paths.models() / f"{chosen.backbone}.safetensors"
    backbone = load_backbone(chosen.backbone, chosen.source)
    save_weights(backbone, target)
    print(f"{target}\nweights SHA-256 {backbone.weights_sha256}")


if __name__ == "__main__":
    sys.exit(main())
