"""Pages of the site that are made from the kit itself: ledger, datasets, presets, settings, public names."""

import tomllib
from pathlib import Path
from typing import Any

from data_prep.registry import DATASETS
from fap_lib import __all__ as PUBLIC
from fap_lib.core import config
from fap_lib.core.config import load_profile
from fap_lib.core.files import write_text
from fap_lib.grids.settings import presets
from fap_lib.official.ledger import rows

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Repository"
]

PAGES = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "data_prep/mini/README.md",
    "fap_lib/clip/weights/README.md",
    "workflow/large_scale.md",
    "workflow/slurm/README.md",
]
"""Markdown outside `docs/` that is part of the site, from where it lies in the repository."""


def write(folder: Path) -> None:
    """Write all generated pages into `folder`; a page that did not change is left alone."""
    pages = {
        "ledger": ledger(),
        "datasets": datasets(),
        "presets": methods(),
        "settings": settings(),
        "api": api(),
    }
    for name, page in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            write_text(path, page)


def table(head: list[str], lines: list[list[Any]]) -> str:
    """A Markdown table."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in [head, *lines]]
    text = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]]) + "\n"


def ledger() -> str:
    """Paper against released code."""
    parts = ["# The ledger: paper against released code\n"]
    parts.append(
        "What the paper says, what the authors' code does, and which is the default here (`fap ledger`).\n"
    )
    for row in rows():
        setting = f"`{row.setting}`" if row.setting else "no setting"
        parts.append(
            f"## {row.id}\n\n- **Paper:** {row.paper}\n- **Released:** {row.released} (`{row.where}`)\n"
            f"- **Here:** {setting}; default as {row.default}. {row.why}\n"
        )
    return "\n".join(parts)


def datasets() -> str:
    """The nineteen datasets and their terms."""
    head = ["name", "dataset", "domain", "normal", "anomalous", "metrics", "terms"]
    lines = [
        [f"`{each.name}`", each.title, each.domain, *each.total, each.metrics, each.terms]
        for each in DATASETS.values()
    ]
    return (
        "# The nineteen datasets\n\nTest images by the paper's protocol, and the terms in one line; "
        "`fap data show NAME` has all about one.\n\n" + table(head, lines)
    )


def methods() -> str:
    """Baselines and ablations."""
    lines = [[f"`{name}`", each.group, each.caption, each.unlike or "-"] for name, each in presets().items()]
    return (
        "# Presets\n\nWhat a grid can run beside FAPrompt itself, each a change of its settings "
        "(`workflow/presets.yaml`).\n\n"
        + table(["name", "group", "what", "why not comparable with published figures"], lines)
    )


def settings() -> str:
    """Every setting, with its default and what the profiles say."""
    profiles = ("mini", "paper")
    values = [load_profile(name).model_dump() for name in profiles]
    parts = ["# Settings\n\nDefaults are the official values; a profile changes some.\n"]
    sections = {
        "features": config.FeatureSettings,
        "model": config.ModelSettings,
        "training": config.TrainSettings,
        "scoring": config.ScoreSettings,
    }
    for section, kind in sections.items():
        plain = kind()
        lines = [
            [
                f"`{name}`",
                *(f"`{each!r}`" for each in (getattr(plain, name), *(p[section][name] for p in values))),
            ]
            for name in kind.model_fields
        ]
        parts.append(f"## {section}\n\n" + table(["setting", "default", *profiles], lines))
    return "\n".join(parts)


def api() -> str:
    """The public names, documented from their docstrings."""
    import fap_lib

    parts = [
        "# Public names\n\n```python\nfrom fap_lib import FAPrompt, load_backbone\n```\n",
        "What is not here is free to change.\n",
    ]
    for name in PUBLIC:
        thing = getattr(fap_lib, name)
        kind = "function"
        if isinstance(thing, type):
            kind = "exception" if issubclass(thing, Exception) else "class"
        members = "" if kind == "function" else "\n   :members:"
        directive = f".. auto{kind}:: {thing.__module__}.{thing.__qualname__}{members}"
        parts.append(f"## {name}\n\n```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(parts)
