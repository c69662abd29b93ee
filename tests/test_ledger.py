"""The ledger names real settings, and every difference between the modes has its row."""

import re

import pytest

from fap_lib.core import paths
from fap_lib.core.config import ModelSettings, load_profile
from fap_lib.official.ledger import rows


def test_every_row_is_taught_and_every_mention_has_its_row():
    """Code and notebooks name rows as `(ledger: ID)` or "Ledger `ID`"; notebook 9 shows what each does."""
    ids = [row.id for row in rows()]
    assert len(set(ids)) == len(ids)
    sources = [*paths.PACKAGE.rglob("*.py"), *paths.NOTEBOOKS.glob("*.ipynb")]
    for path in sources:
        text = path.read_text()
        mentioned = re.findall(r"\(ledger:\s+([\w-]+)\)", text)
        for part in re.findall(r"\bLedger ((?:`[\w-]+`(?:, | and )?)+)", text):
            mentioned += re.findall(r"`([\w-]+)`", part)
        assert set(mentioned) <= set(ids), f"{path.name} names a row that is not there"
    last = (paths.NOTEBOOKS / "09_paper_against_code.ipynb").read_text()
    assert [name for name in ids if name not in last] == []


@pytest.mark.parametrize("row", [row for row in rows() if row.setting], ids=lambda row: row.id)
def test_settings_exist_and_take_both_values(row):
    section, name = row.setting.split(".")
    for value in row.values.values():
        changed = load_profile("paper", {section: {name: value}})
        assert getattr(getattr(changed, section), name) == value
    if row.id not in ("patch-selection", "patch-order"):
        profile = load_profile("paper")
        assert getattr(getattr(profile, section), name) == row.values[row.default]


def test_the_modes_differ_in_the_patch_selection_alone():
    (row,) = [row for row in rows() if row.id == "patch-selection"]
    for mode in ("paper", "released"):
        assert ModelSettings(mode=mode).patch_selection == row.values[mode]
    paper, released = ModelSettings(mode="paper"), ModelSettings(mode="released")
    differing = [k for k in ModelSettings.model_fields if getattr(paper, k) != getattr(released, k)]
    assert differing == ["mode"]
    differing_rows = {r.id for r in rows() if r.values and r.values["paper"] != r.values["released"]}
    # `resize-order` is about files and no part of the prompts.
    assert differing_rows == {"patch-selection", "patch-order", "resize-order"}


def test_every_row_says_where_and_why():
    for row in rows():
        assert row.where
        assert row.default in ("paper", "released")
        assert len(row.why) > 20
