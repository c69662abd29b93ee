"""A run's page: nothing empty in its tables, and no table wider than a phone."""

import io
import re

from PIL import Image

from fap_lib.core.sealed import write_sealed
from fap_lib.runs.report import page, write_report


def rows(values: dict[tuple[str, str], float | None]) -> list[dict]:
    return [
        {
            "dataset": "toy",
            "category": category,
            "level": level,
            "metric": metric,
            "value": value,
            "definition": "of this kind",
            "reason": "" if value else "no masks",
        }
        for category in ("one", "mean")
        for (level, metric), value in values.items()
    ]


def test_a_metric_that_exists_nowhere_has_no_column_but_a_reason(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, format="PNG")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "heatmaps.png").write_bytes(picture.getvalue())
    run = {
        "kit": {"version": "1", "commit": "abc"},
        "weights": {"backbone": "tiny", "sha256": "0" * 64},
        "settings": {"model": {"mode": "paper"}},
        "seed": 1,
        "device": "cpu",
        "kind": "training",
        "seconds": 1.0,
        "peak_memory_mb": 1,
    }
    write_sealed(tmp_path / "run.json", run)
    found = rows({("image", "auroc"): 0.5, ("pixel", "auroc"): None})
    text = write_report(tmp_path, found, "a toy", "Title", tmp_path).read_text()
    assert re.findall(r"<th>(\w+ \w+)</th>", text) == ["image auroc"]
    assert "<li>pixel auroc: no masks</li>" in text


def test_a_page_fits_a_phone_and_each_table_scrolls_in_its_own_box():
    text = page("A & B", ["<table border=0></table>", "<table></table>"])
    assert 'name="viewport" content="width=device-width' in text
    assert text.count('<div class="table" tabindex="0"><table') == text.count("</table></div>") == 2
    assert "<title>A &amp; B</title>" in text
