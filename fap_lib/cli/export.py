"""`fap export`: a detector for programs without PyTorch."""

import argparse

from fap_lib.core import arguments

TOLERANCE = 1e-4
"""How far the float32 graph may be from PyTorch, on scores and maps."""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `export` to the `fap` parser."""
    parser = commands.add_parser(
        "export",
        help="write a detector as ONNX and as a torch.export program",
        description="Writes a detector for programs without PyTorch, or compares what was written "
        "with PyTorch.",
        examples=(
            "fap export paper --to exported/",
            "fap export paper --to exported/ --variants float16 int8",
            "fap export paper --to exported/ --check photos/",
        ),
    )
    parser.add_argument(
        "prompts",
        type=arguments.prompts,
        metavar="{paper,released,FILE}",
        help="prompts that ship with the kit, or a checkpoint: a run's, or the authors' .pth",
    )
    parser.add_argument(
        "--to", type=arguments.new_folder, required=True, metavar="FOLDER", help="where files go; needed"
    )
    parser.add_argument(
        "--variants",
        nargs="*",
        default=[],
        choices=("float16", "int8"),
        help="smaller files as well: all weights in float16, or matrix weights in int8 (default: neither)",
    )
    parser.add_argument(
        "--check",
        nargs="+",
        metavar="IMAGES",
        help="export nothing; compare what lies in FOLDER with PyTorch on your images (default: export)",
    )
    parser.add_argument(
        "--weights",
        type=arguments.file,
        metavar="FILE",
        help="a file of CLIP's weights (default: what the prompts name, or open_clip's download)",
    )
    parser.set_defaults(run=_export)


def _export(chosen: argparse.Namespace) -> int:
    from fap_lib.inference.detector import Detector
    from fap_lib.inference.export import MODEL, compare, export
    from fap_lib.inference.sources import gather

    detector = Detector.load(chosen.prompts, device="cpu", dtype="float32", weights=chosen.weights)
    if chosen.check is None:
        for path in export(detector, chosen.to, tuple(chosen.variants)):
            print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")
        return 0
    images = gather(chosen.check, detector.features.image_size).paths()
    rows = compare(detector, chosen.to, images)
    print(
        f"{len(images)} images; the largest differences from PyTorch; processor seconds an image, one thread"
    )
    print(f"{'':22} {'MB':>8} {'score':>9} {'map':>9} {'map, mean':>10} {'seconds':>8}")
    for row in rows:
        print(
            f"{row.file:22} {row.megabytes:8.1f} {row.score:9.1e} {row.map:9.1e} {row.mean_map:10.1e} "
            f"{row.seconds:8.4f}"
        )
    return int(any(row.file == MODEL and max(row.score, row.map) > TOLERANCE for row in rows))
