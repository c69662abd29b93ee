"""`fap parity` and `fap ledger`: the kit against the authors' code, and that against the paper."""

import argparse

from fap_lib.core import arguments


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `parity` and `ledger` to the `fap` parser."""
    _add_parity(commands)
    _add_ledger(commands)


def _add_parity(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "parity",
        help="compare the kit with the official code's outputs",
        examples=("fap parity tests/golden/tiny.npz",),
    )
    parser.add_argument("file", type=arguments.file, metavar="FILE", help="an .npz file of official outputs")
    parser.set_defaults(run=_parity)


def _parity(chosen: argparse.Namespace) -> int:
    from fap_lib.official import parity

    return parity.main([str(chosen.file)])


def _add_ledger(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ledger",
        help="list the differences between paper and released code",
        examples=("fap ledger",),
    )
    parser.set_defaults(run=_ledger)


def _ledger(_: argparse.Namespace) -> None:
    from fap_lib.official.ledger import rows

    for row in rows():
        setting = row.setting or "no setting"
        print(f"{row.id}  ({setting}; default as {row.default})")
        print(f"  paper:    {row.paper}\n  released: {row.released} [{row.where}]\n  why:      {row.why}\n")
