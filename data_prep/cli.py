"""`fap data`: list, show and prepare datasets."""

import argparse
from pathlib import Path

from data_prep.prepare import prepare
from data_prep.registry import DATASETS, find


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `data` and its subcommands to the `fap` parser."""
    data = commands.add_parser("data", help="prepare datasets").add_subparsers(
        required=True, metavar="ACTION"
    )
    data.add_parser("list", help="the known datasets").set_defaults(run=_list)

    show = data.add_parser("show", help="all about one dataset")
    show.add_argument("name")
    show.set_defaults(run=_show)

    prepare_ = data.add_parser("prepare", help="prepare a dataset from its raw download")
    prepare_.add_argument("name")
    prepare_.add_argument("--from", dest="source", type=Path, required=True, metavar="PATH")
    prepare_.add_argument("--to", type=Path, metavar="FOLDER", help="prepared folder (default: data/NAME)")
    prepare_.set_defaults(run=_prepare)


def _list(_: argparse.Namespace) -> None:
    for entry in DATASETS.values():
        normal, anomalous = entry.expected
        print(f"{entry.name:10} {entry.domain:10} {normal:5} / {anomalous:5}  {entry.title}")


def _show(chosen: argparse.Namespace) -> None:
    entry = find(chosen.name)
    normal, anomalous = entry.expected
    print(f"{entry.name}: {entry.title} ({entry.domain})")
    print(f"source     {entry.source}\nterms      {entry.terms}\ncite       {entry.citation}")
    print(f"protocol   {entry.protocol}\ntest set   {normal} normal, {anomalous} anomalous")
    print(f"raw folder {entry.folder or ''}* with {', '.join(entry.holds)}\nmask rule  {entry.mask_rule}")


def _prepare(chosen: argparse.Namespace) -> None:
    manifest = prepare(chosen.name, chosen.source, chosen.to)
    labels = [record.label for record in manifest.records("test")]
    print(f"{manifest.name}: {labels.count(0)} normal, {labels.count(1)} anomalous in {manifest.root}")
