"""The ledger of differences between the paper and the released code (`ledger.yaml`)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

_FILE = Path(__file__).with_name("ledger.yaml")


@dataclass(frozen=True)
class Row:
    """One difference. `setting` (section.name) chooses a side, with `values` for each; None: no choice."""

    id: str
    where: str
    paper: str
    released: str
    setting: str | None
    default: Literal["paper", "released"]
    why: str
    values: dict[str, Any] = field(default_factory=dict)


def rows() -> list[Row]:
    """All rows, in the order of the file."""
    return [Row(**entry) for entry in yaml.safe_load(_FILE.read_text(encoding="utf-8"))]
