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
        ),
    )
    parser.add_argument(
        "backbone",
        type=arguments.name,
        metavar="BACKBONE",
        help="an open_clip architecture, such as ViT-L-14-336-quickgelu",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=arguments.file,
        metavar="FILE",
        help="a weights file (default: OpenAI's weights)",
    )
    parser.add_argument(
        "--to", type=arguments.new_file, metavar="FILE", help="default: BACKBONE.safetensors in models/"
    )
    parser.set_defaults(run=_weights)


def _weights(chosen: argparse.Namespace) -> None:
    from fap_lib.clip.backbone import load_backbone, save_weights
    from fap_lib.core import paths

    target = chosen.to or arguments.new_file(paths.models() / f"{chosen.backbone}.safetensors")
    backbone = load_backbone(chosen.backbone, chosen.source)
    save_weights(backbone, target)
    print(f"{target}\nweights SHA-256 {backbone.weights_sha256}")
