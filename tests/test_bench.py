"""The benchmark itself: its rows agree on every value, its counters count, its pages hold the figures."""

import itertools
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import gpu, pages, plain, report, scale
from benchmarks.measure import Case, Way, counting, feasible, measure, peak, relative, reset_peak, trace
from benchmarks.rows import Subject, cases, story
from fap_lib.core import paths
from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError


@pytest.fixture
def one_thread():
    """Small work on a busy machine: threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_every_row_gives_the_same_values_in_all_its_ways(tmp_path, monkeypatch):
    """`measure` ends with an error where one does not. Random weights, toy size, one turn."""
    # A processor without units for bfloat16 takes minutes for that product.
    monkeypatch.setattr("benchmarks.measure.matmul_rate", lambda _: 1e9)
    subject = Subject("tiny", tmp_path)
    found = [row for case in [*cases(subject), story(subject)] for row in measure(case, 0, least=1)]
    names = " ".join(row["case"] for row in found)
    for wanted in (
        "image tower",
        "static text",
        "adapted text",
        "one image scored",
        "training step",
        "one epoch",
        "cache write",
        "cache read",
        "aupro_official",
        "aupro_exact",
        "pixel AUROC and AP",
        "smoothing",
        "decode and resize",
        "whole dataset",
        "step by step",
    ):
        assert wanted in names
    assert all(row["seconds"] > 0 and row["turns"] == 1 for row in found)


def case(second: Way) -> Case:
    return Case("a case", {"first": Way(lambda: [1.0, np.ones(3)]), "second": second})


def test_a_way_with_other_values_ends_the_run():
    with pytest.raises(AssertionError, match=r"a case, second: differs by 0\.5"):
        measure(case(Way(lambda: [1.5, np.ones(3)], limit=0.1)), 0, least=1)
    with pytest.raises(ValueError, match="zip"):
        measure(case(Way(lambda: [1.0])), 0, least=1)


def test_ways_are_timed_in_turns():
    calls = []

    def way(name: str):
        return Way(lambda: calls.append(name) or [0.0])

    found = measure(Case("turns", {"a": way("a"), "b": way("b")}), 0, least=3)
    assert calls == ["b", *"ababab"]  # one call to warm the second up
    assert [row["turns"] for row in found] == [3, 3]
    assert found[0]["ratio"] == 1


def test_a_precision_without_units_is_left_out():
    assert feasible({"float32": 100.0, "bfloat16": 200.0, "float16": 1.0}) == ["float32", "bfloat16"]
    ways = {"first": Way(lambda: [0.0]), "low": Way(lambda: [0.0], precision="bfloat16")}
    case = Case("precisions", ways, images=3)
    assert list(case.only(["float32"]).ways) == ["first"]
    assert case.only(["float32", "bfloat16"]) == case


def test_relative_difference():
    assert relative(torch.tensor([3.0, 4.0]), np.array([3.0, 4.0])) == 0
    assert relative(5.0, 4.0) == pytest.approx(0.25)


def test_fused_and_explicit_attention_count_the_same_work():
    q = torch.randn(2, 4, 10, 16, requires_grad=True)
    work = []
    for attention in (
        lambda: F.scaled_dot_product_attention(q, q, q),
        lambda: (q @ q.transpose(-1, -2)).softmax(-1) @ q,
    ):
        with counting() as counter:
            result = attention()
        forward = counter.get_total_flops()
        with counting() as counter:
            result.sum().backward()
        work.append((forward, counter.get_total_flops()))
    assert work[0][0] == work[1][0] == 2 * 2 * (2 * 4 * 10 * 10 * 16)
    assert work[1][1] == 2 * work[1][0]
    assert work[0][1] == 2.5 * work[0][0]  # the fused kernel computes the weights again


def test_jobs_extract_shards_that_are_joined(dataset, monkeypatch):
    """In this process, on a few images; the cache of the whole is gone afterwards."""
    monkeypatch.setattr(scale, "spread", lambda work, jobs, *_: map(work, jobs))
    monkeypatch.setattr(scale.benchmark, "generate", lambda *_: dataset)
    paths.home().mkdir(parents=True)
    before = torch.get_num_threads()
    try:
        found = scale.in_jobs(load_profile("tiny"), 80, 2)
    finally:
        torch.set_num_threads(before)
    assert found["jobs"] == 2
    assert found["images/s"] > 0
    assert [path.name for path in paths.cache().iterdir()] == []


def test_peak_memory_is_what_was_allocated():
    before = reset_peak()
    torch.ones(50_000_000 // 4)
    assert peak() - before == pytest.approx(50e6, rel=0.1)
    traced = trace(
        case(Way(lambda: [1.0, np.ones(3) + 0 * (torch.ones(5, 7) @ torch.ones(7, 2))[0, 0].item()]))
    )
    assert traced[1]["gflop"] == pytest.approx(2 * 5 * 7 * 2 / 1e9)


def row(way: str, **changes) -> dict:
    values = {
        "case": "c",
        "way": way,
        "seconds": 2.0,
        "images": None,
        "megabytes": None,
        "ratio": 1.0,
        "processor": 4.0,
        "processor_ratio": 1.0,
        "repeated": False,
        "target": None,
        "share_target": None,
        "why": "",
        "difference": 0.0,
        "gflop": 100.0,
        "peak_mb": 7.0,
        "ceiling_gflops": 100.0,
    }
    return values | changes


def test_the_table_says_what_was_met_and_missed():
    results = {
        "rows": [
            row("official order"),
            row("good", seconds=0.5, ratio=2.9, processor_ratio=4.0, target=3, gflop=40.0),
            row(
                "bad",
                ratio=3.1,
                processor_ratio=1.2,
                repeated=True,
                target=3,
                images=10,
                why="it cannot",
                share_target=0.6,
            ),
        ]
    }
    lines = report.rows(results).splitlines()
    assert len(lines) == 4
    assert "| c: good | 2 s | 500 ms | 2.9 | **4.0** | ≥ 3, met | 50% → 80% | 100 → 40 | 7 → 7 |" in lines[2]
    assert "| 3.1 | **1.2*** |" in lines[3]
    assert "≥ 3, **missed**: it cannot | 50% → 50% (≥ 60%, **missed**) |" in lines[3]
    assert "2 s (5 images/s)" in lines[3]


def test_the_gpu_table_without_a_gpu_has_no_figure():
    empty = {"about": {"gpu": None}, "targets": gpu.TARGETS, "figures": dict.fromkeys(gpu.TARGETS)}
    table = report.gpu(empty)
    assert table.count("not yet measured") == len(gpu.TARGETS)
    assert "met" not in table.replace("**missed**", "")
    assert "missed" not in table
    figures = dict.fromkeys(gpu.TARGETS, 200.0)
    table = report.gpu({"about": {"gpu": "a GPU"}, "targets": gpu.TARGETS, "figures": figures})
    assert "at least 325 images/s | **missed**" in table
    assert "at most 180 s | **missed**" in table
    assert report.gpu(
        {"about": {"gpu": "a GPU"}, "targets": gpu.TARGETS, "figures": {"training, peak memory": 7.9}}
    ).endswith("| training, peak memory | 7.9 GB | at most 8 GB | met |")


def test_a_row_that_varies_is_repeated_once():
    def unsteady() -> list[float]:
        end = time.process_time() + next(spans)
        while time.process_time() < end:
            pass
        return [1.0]

    spans = itertools.cycle([0.002, 0.02])
    found = measure(Case("c", {"official order": Way(unsteady)}), 0.0)
    assert found[0]["repeated"]
    assert found[0]["turns"] == 4


@pytest.mark.usefixtures("one_thread")
def test_the_gpu_measurement_runs_at_small_size_on_the_cpu(tmp_path, monkeypatch, capsys):
    variants = gpu.variants
    monkeypatch.setattr(  # compiling takes minutes
        gpu, "variants", lambda *a: (each for each in variants(*a) if each[0].startswith("pinned"))
    )
    results = gpu.measure_gpu(tmp_path)
    printed = capsys.readouterr().out
    assert "none of its figures is a result" in printed
    assert "failed" not in printed
    assert set(gpu.TARGETS) <= set(results["figures"])
    assert not any(results["figures"].values())
    assert "encoding, eager, batch 64, images/s" in results["figures"]


def test_the_estimate_adds_its_parts():
    parts = {
        "encoding, bfloat16": 300.0,
        "decoding and resizing, images/s": 1e9,
        "training, 15 epochs of 1,725 cached images": 100.0,
        "scoring from the cache, maps included": 1e9,
        "all metrics, images/s": 1e9,
    }
    images = 25_754 + 1725 + 2162
    expected = images / 300 + 100 * (1 + 2162 / 1725)
    assert gpu.estimate(parts) == pytest.approx(expected / 60, rel=1e-3)
    slow = parts | {"decoding and resizing, images/s": 30.0}
    assert gpu.estimate(slow) - gpu.estimate(parts) == pytest.approx(images * 0.9 / 30 / 60)


def test_the_pages_hold_the_committed_figures():
    """`python -m benchmarks.pages` would change nothing."""
    found = report.measured()
    assert set(found) <= {"mini", "paper", "gpu"}
    assert "gpu" in found, "even unmeasured, it names what is to be measured"
    for profile, results in found.items():
        assert (report.RESULTS / f"{profile}.md").read_text() == report.document(profile, results)
    known = pages.tables()
    marked = {str(page.relative_to(paths.REPOSITORY)) for page in pages.pages()}
    assert {"benchmarks/README.md", "docs/mini_world.md", "docs/speed.md"} <= marked
    for page in pages.pages():
        text = page.read_text(encoding="utf-8")
        assert pages.filled(text, known) == text


def test_a_page_takes_its_tables_at_its_marks_and_no_others():
    page = "a\n<!-- study -->\nold\n<!-- end -->\n<!-- a note -->\n<!-- mini rows -->\n<!-- end -->\n"
    found = pages.filled(page, {"study": "new", "mini rows": "many"})
    assert found == page.replace("old", "new").replace("rows -->\n", "rows -->\nmany\n")
    with pytest.raises(KitError, match="wants the table 'study'; the nearest known one is 'steady'"):
        pages.filled(page, {"steady": "new"})


def test_every_module_the_story_names_is_there():
    text = (paths.REPOSITORY / "benchmarks" / "README.md").read_text()
    names = set(re.findall(r"`((?:fap_lib|benchmarks|tests)/[\w/]+\.py)`", text))
    assert len(names) > 5
    for name in names:
        assert Path(paths.REPOSITORY / name).is_file(), name
    tests = (paths.REPOSITORY / "tests" / "test_speed.py").read_text()
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


def test_plain_prompts_may_end_early_only_outside_the_official_order():
    assert plain.CONTEXT == 77
    assert plain.text_features.__defaults__ == (0.0, plain.explicit, 77)
