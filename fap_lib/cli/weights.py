"""`fap weights`: a CLIP's weights as a safetensors file."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `weights` to the `fap` parser."""
    parser = commands.add_parser(
        "weights",
        help="write a CLIP's weights as a safetensors file",
        examples=(
            "fap weights ViT-L-14-336-quickgelu    # downloads OpenAI's",
            "fap weights ViT-L-14-336-quickgelu --from ViT-L-14-336px.pt",
            "fap weights ViT-L-14:laion2b_s32b_b82k --from open_clip_model.safetensors",
        ),
    )
    parser.add_argument(
        "backbone",
        type=arguments.backbone,
        metavar="BACKBONE",
        help="an open_clip architecture, or ARCHITECTURE:TAG for weights that others published",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=arguments.file,
        metavar="FILE",
        help="a weights file (default: the published weights)",
    )
    parser.add_argument(
        "--to", type=arguments.new_file, metavar="FILE", help="default: in models/, where the name finds it"
    )
    parser.set_defaults(run=_weights)


def _weights(chosen: argparse.Namespace) -> None:
    from fap_lib.clip.backbone import load_backbone, save_weights
    from fap_lib.clip.published import parse
    from fap_lib.core import paths

    target = chosen.to or arguments.new_file(paths.models() / parse(chosen.backbone).file)
    backbone = load_backbone(chosen.backbone, chosen.source)
    save_weights(backbone, target)
    print(f"{target}\nweights SHA-256 {backbone.weights_sha256}")
