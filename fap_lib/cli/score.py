"""`fap score`: scores and heat maps of one's own images."""

import argparse

from fap_lib.core import arguments
from fap_lib.core.errors import KitError


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `score` to the `fap` parser."""
    parser = commands.add_parser(
        "score",
        help="scores, heat maps and a page to look at, for your images",
        description="Scores your images. The run folder gets scores.csv, maps/, gallery.html, and "
        "metrics.csv where the folder has labels.",
        examples=(
            "fap score photos/",
            "fap score photos/ --normal fine/ --alpha 0.05    # and a threshold",
            "fap score 'line3/**/*.jpg' --profile paper --prompts runs/NAME/training/prompts.safetensors",
        ),
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=arguments.images,
        metavar="IMAGES",
        help="folders, files, or patterns such as 'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--prompts",
        type=arguments.prompts,
        default="paper",
        metavar="{paper,released,FILE}",
        help="paper or released: they ship with the kit for the profile mini, learned as the paper says "
        "or as the released code does; FILE: a checkpoint, a run's or the authors' .pth",
    )
    arguments.add_profile(parser, None, " (default: the one the prompts belong to)")
    parser.add_argument(
        "--normal",
        type=arguments.folder,
        metavar="FOLDER",
        help="normal images, to choose a threshold by (default: none, so nothing is flagged)",
    )
    parser.add_argument(
        "--alpha",
        type=arguments.share,
        default=0.05,
        metavar="SHARE",
        help="share of normal images that may be flagged, above 0 and below 1",
    )
    parser.add_argument(
        "--tile",
        type=arguments.whole(0),
        metavar="PIXELS",
        help="cut larger images into tiles of this side; 0: none (default: as the prompts were saved)",
    )
    parser.add_argument(
        "--overlap",
        type=arguments.share,
        metavar="SHARE",
        help="of neighbouring tiles, with --tile (default: 0.25)",
    )
    parser.add_argument(
        "--overlay", action="store_true", help="also write each image with its map and outline over it"
    )
    parser.add_argument(
        "--errors",
        choices=("raise", "skip"),
        default="raise",
        help="what an unreadable image does: raise ends the run, skip leaves it out and counts it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a summary")
    arguments.add_run(parser, "score-NAME")
    arguments.add_device(parser)
    parser.set_defaults(run=_score)


def _score(chosen: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from fap_lib.inference.detector import Detector
    from fap_lib.inference.folder import find_prompts
    from fap_lib.inference.gallery import PAGE
    from fap_lib.inference.scored import score_images
    from fap_lib.inference.tiles import OVERLAP

    prompts = find_prompts(chosen.prompts, chosen.profile or "mini")
    if chosen.overlap and not chosen.tile:
        raise KitError("--overlap is of tiles; give --tile with it.")
    detector = Detector.load(
        prompts,
        device=chosen.device,
        profile=chosen.profile,
        tile=chosen.tile,
        overlap=chosen.overlap or OVERLAP,
    )
    scored = score_images(
        chosen.images, detector, chosen.normal, chosen.alpha, chosen.folder, chosen.overlay, chosen.errors
    )
    flagged = sum(row["flagged"] == "yes" for row in scored.rows)
    if chosen.json:
        document = {
            "run": str(scored.folder),
            "threshold": scored.calibration and asdict(scored.calibration),
            "skipped": scored.skipped,
            "images": [_typed(row) for row in scored.rows],
        }
        print(json.dumps(document, ensure_ascii=False, indent=2))
        return
    for row in scored.rows[:5]:
        print(f"{float(row['score']):.3f}  {row['image']}")
    for sentence in scored.skipped:
        print(f"left out: {sentence}")
    said = (
        f", {flagged} flagged" if scored.calibration else ", no threshold (give normal images with --normal)"
    )
    left = f", {len(scored.skipped)} left out" if scored.skipped else ""
    print(f"{len(scored.rows)} images{said}{left}")
    if scored.shared:
        print(f"{scored.shared} of them are among the normal images, so their verdicts promise nothing")
    print(f"{scored.folder / PAGE}\n{scored.folder}")


def _typed(row: dict) -> dict:
    """A row of the table with numbers and truth values instead of their texts."""
    numbers = {name: float(row[name]) for name in ("score", "global_probability")}
    return row | numbers | {"flagged": {"yes": True, "no": False}.get(row["flagged"])}
