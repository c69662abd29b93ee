"""`fap score`: scores and heat maps of one's own images."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `score` to the `fap` parser."""
    parser = commands.add_parser("score", help="scores and heat maps for a folder of your images")
    parser.add_argument("images", type=arguments.folder, metavar="FOLDER")
    parser.add_argument(
        "--prompts",
        default="paper",
        help="paper or released, which ship with the profile mini, or a checkpoint",
    )
    parser.add_argument("--profile", type=arguments.profile, default="mini")
    parser.add_argument(
        "--normal", type=arguments.folder, metavar="FOLDER", help="normal images, to choose a threshold by"
    )
    parser.add_argument(
        "--alpha", type=arguments.share, default=0.05, help="share of normal images that may be flagged"
    )
    parser.add_argument(
        "--run", dest="folder", type=arguments.new_folder, help="run folder (default: one below runs/)"
    )
    arguments.add_device(parser)
    parser.set_defaults(run=_score)


def _score(chosen: argparse.Namespace) -> None:
    import csv

    from fap_lib.inference.folder import score_folder
    from fap_lib.runs.results import SCORES

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
