"""The campaign's own book-keeping: it goes on where it was, and its table counts right."""

from tests.campaign.__main__ import page
from tests.campaign.flips import damage
from tests.campaign.log import Log


def test_an_interrupted_campaign_goes_on_with_the_same_numbers(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    first = Log(path, seed=3)
    drawn = [first.chance("kind", number).random() for number in range(3)]
    assert len(set(drawn)) == 3
    assert first.chance("other", 0).random() != drawn[0]
    first.note("kind", 1, "ü")
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"kind": "kind", "number": 0, "di')  # killed while it wrote
    again = Log(path, seed=3)
    assert [case.did for case in again.cases] == ["ü"]
    assert again.missing("kind", 3) == [0, 2]
    assert again.chance("kind", 2).random() == drawn[2]
    again.note("kind", 0, "a")
    assert [case.number for case in Log(path, seed=3).cases] == [1, 0]


def test_the_page_counts_what_held_and_names_what_fell(tmp_path):
    log = Log(tmp_path / "log.jsonl", seed=0)
    log.note("prompts", 0, "bit 1 of byte 2")
    log.note("prompts", 1, "cut at 3", "read, and different")
    log.note("full disk", 0, "no permission to mount", ran=False)
    log.note("fuzzed: archives", 0, "200 files", count=200)
    text = page(log)
    for row in (
        "| prompts | 2 | 1 | 1 |",
        "| fuzzed: archives | 200 | 200 | 0 |",
        "| **all** | 202 | 201 | 1 |",
    ):
        assert row in text
    assert "Not run on this machine: full disk (no permission to mount)." in text
    assert "- prompts, cut at 3: read, and different" in text


def test_damage_changes_a_file_by_a_bit_or_cuts_it(tmp_path):
    path, whole = tmp_path / "x", bytes(range(256)) * 4
    log = Log(tmp_path / "log.jsonl", seed=0)
    for number in range(50):
        path.write_bytes(whole)
        did = damage(path, log.chance("x", number))
        found = path.read_bytes()
        if did.startswith("cut"):
            assert found == whole[: len(found)] != whole
        else:
            assert sum((a ^ b).bit_count() for a, b in zip(found, whole, strict=True)) == 1
