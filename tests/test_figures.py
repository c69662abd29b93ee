"""The figures: what stands behind them, the files they become, and what the pages say of them."""

import re
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

import figures
from benchmarks import study_tables
from fap_lib.core import paths
from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.lessons import study as study
from fap_lib.lessons.lesson import Lesson
from fap_lib.model import FAPrompt
from fap_lib.pictures import framework
from figures import __main__ as every
from figures import (
    ablations,
    dataset_bars,
    mini_pretraining,
    mini_samples,
    one_image,
    prompt_similarity,
    qualitative,
    save_figure,
    sweeps,
    training_curves,
)

PAGES = {
    page: (paths.REPOSITORY / page).read_text(encoding="utf-8")
    for page in ("README.md", "docs/mini_world.md", "docs/use.md", "docs/figures.md", "docs/index.md")
}
SHOWN = ("framework", "one_image", "qualitative", "ablations")


@pytest.fixture(scope="module")
def results():
    return study_tables.load_study()


@pytest.fixture(scope="module")
def swept(results):
    """The study, with sweeps that differ from the default by known amounts."""
    full = results[(results.method == study.FULL) & (results.test == study.TEST)]
    made = [
        full.assign(method=name, **{metric: full[metric] + change for metric in study.COMPARED})
        for name, change in (("K = 1", -0.02), ("M = 50", 0.01), ("E' = 8", 0.005), ("E = 4", -0.03))
    ]
    return pd.concat([results[~results.method.isin(study.SWEPT)], *made])


@pytest.fixture
def lesson(dataset, backbone, small):
    torch.manual_seed(0)
    profile = load_profile("tiny")
    model = FAPrompt(backbone.text_tower, profile.model, backbone.patch_width).eval()
    cache = features(dataset, "test", backbone, small)
    return Lesson(profile, "cpu", backbone, dataset, cache, model, {}, small)


def evaluation(dataset):
    """Made-up scores of the toy dataset: those of one category separate well, the other's badly."""
    rows = []
    for number, record in enumerate(dataset.records("test")):
        good = record.category == "stripes"
        score = (0.3 + 0.4 * record.label if good else 0.5) + 0.1 * np.sin(3 * number)
        rows.append([record.image, record.category, record.defect, record.label, score])
    scores = pd.DataFrame(rows, columns=["image", "category", "defect", "label", "score"])
    masks = [record.mask for record in dataset.records("test")]
    patches = np.random.default_rng(0).random((len(rows), 2, 25), dtype=np.float32)
    return qualitative.Evaluation(scores, dataset.root, masks, dataset.mask_rule, patches, 98, 2.0)


def bars(axis):
    return [patch.get_width() for patch in axis.patches]


# What stands behind them


def test_the_ablations_bars_are_the_studys_gains(results):
    shown = ablations.values(results).set_index(["title", "metric"])
    for over, title in ((study.SINGLE, "one prompt, no DAP"), ("CAP", "CAP, no DAP")):
        for metric in study.COMPARED:
            mean, half = study_tables.gain(results, study.FULL, over, metric, study.TEST)
            assert shown.loc[(title, metric), "mean"] == pytest.approx(-100 * mean)
            assert shown.loc[(title, metric), "half"] == pytest.approx(100 * half)
    # The page's table says the same, rounded.
    row = re.search(
        r"\| CAP \+ DAP, paper over CAP \| .*? \| \+(\S+) ± (\S+) \|", PAGES["docs/mini_world.md"]
    )
    assert (row[1], row[2]) == tuple(
        f"{value:.1f}" for value in abs(shown.loc[("CAP, no DAP", "pixel_auroc"), ["mean", "half"]])
    )
    drawn = ablations.draw(results)
    for axis, metric in zip(drawn.axes, study.COMPARED, strict=True):
        assert bars(axis) == pytest.approx(list(shown.xs(metric, level="metric")["mean"]))


def test_few_runs_take_the_interval_that_the_sweeps_share(results):
    full = results[(results.method == study.FULL) & (results.draw == 0)]
    few = full.assign(
        method="no prior loss", pixel_auroc=full.pixel_auroc + np.where(full.seed == 0, 0.01, -0.01)
    )
    shown = ablations.values(pd.concat([results[~results.method.isin(study.SWEPT)], few]))
    own = shown[(shown.method == "no prior loss") & (shown.metric == "pixel_auroc")].iloc[0]
    assert own["mean"] == pytest.approx(-0.6), "one seed of five gains a point, four lose one"
    assert own["half"] == pytest.approx(0, abs=1e-9), "the cells agree"


def test_the_dataset_bars_are_the_studys_intervals(results):
    shown = dataset_bars.values(results).set_index(["test", "category", "metric", "method"])
    assert {"leather", "cable", "mean"} <= set(shown.loc[study.TEST].index.get_level_values("category"))
    assert not any("defect" in name for name in shown.index.get_level_values("category"))
    means = study.of(results, study.TEST)
    for method in (study.SINGLE, study.FULL):
        mean, half = study.interval(means[means.method == method], "pixel_auroc")
        own = shown.loc[(study.TEST, "mean", "pixel_auroc", method)]
        assert tuple(own) == pytest.approx((100 * mean, 100 * half))
    drawn = dataset_bars.draw(results)
    assert sorted(width for width in bars(drawn.axes[0])) == pytest.approx(
        sorted(shown.xs("image_auroc", level="metric")["mean"])
    )


def test_the_sweeps_points_are_differences_to_the_default(swept):
    shown = sweeps.values(swept)
    found = {(row.setting, row.value): row.mean for row in shown[shown.metric == "image_auroc"].itertuples()}
    known = {"K": {1: -2, 10: 0}, "M": {50: 1, 10: 0}, "E'": {8: 0.5, 2: 0}, "E": {4: -3, 5: 0}}
    known = {(name, value): mean for name, line in known.items() for value, mean in line.items()}
    assert found == pytest.approx(known, abs=1e-9)
    labels = [label.get_text() for axis in sweeps.draw(swept).axes for label in axis.get_xticklabels()]
    assert [label for label in labels if "default" in label] == [f"{n}\n(default)" for n in (10, 10, 5, 2)]


def test_without_sweeps_one_sentence_says_how_to_run_them(results):
    with pytest.raises(KitError, match=r"python -m benchmarks\.study --sweeps"):
        sweeps.values(results[~results.method.isin(study.SWEPT)])


def test_a_rule_chooses_typical_images_and_failures(dataset):
    scores = evaluation(dataset).scores
    chosen = qualitative.choose(scores)
    assert [why for _, why in chosen] == ["typical", "typical", "missed", "false alarm"]
    auroc = [
        roc_auc_score(own.label, own.score)
        for place, why in chosen
        if why == "typical"
        for own in [scores[scores.category == scores.category[place]]]
    ]
    assert auroc == sorted(auroc, reverse=True)
    for place, why in chosen:
        row = scores.loc[place]
        own = scores[scores.category == row.category]
        assert row.label == (why != "false alarm")
        if why == "typical":
            assert (own[own.label == 1].score < row.score).sum() == (own.label == 1).sum() // 2
    assert scores.category[chosen[2][0]] == scores.category[chosen[3][0]] == "grain", "the one that fails"


def test_the_one_image_is_a_typical_gain(dataset):
    made = evaluation(dataset)
    gains = {}
    for place in made.scores.query("label == 1").index:
        _, truth, static, _, anomaly = qualitative.pictures(made, place)
        np.testing.assert_allclose(2 * anomaly - static, qualitative.pictures(made, place)[3], atol=1e-6)
        before, after = (average_precision_score(truth.ravel(), m.ravel()) for m in (static, anomaly))
        gains[place] = after - before
    chosen = gains.pop(one_image.choose(made))
    assert sum(gain < chosen for gain in gains.values()) == (len(gains) + 1) // 2


def test_prompts_are_compared_as_learned_and_as_adapted(lesson):
    before, after, chosen = prompt_similarity.cosines(lesson)
    count = 1 + lesson.model.settings.n_prompts
    assert before.shape == after.shape == (count, count)
    for values in (before, after):
        torch.testing.assert_close(values, values.T)
        torch.testing.assert_close(values.diagonal(), torch.ones(count))
    assert not torch.allclose(before, after)
    assert lesson.cache.records[chosen].label == 1
    with torch.inference_mode():
        score = lesson.model(*lesson.cache.features(np.arange(len(lesson.cache)))).score
    labels = torch.tensor(lesson.cache.labels)
    assert score[chosen] == score[labels == 1].max()


# What they become


def test_every_script_draws(dataset, lesson, results, swept):
    log = [{"step": n, "epoch": 1, "seconds": 0.1, "total": 1.0, "pixel_static": 1 / n} for n in (1, 2)]
    pretraining = pd.read_json(mini_pretraining.LOG, lines=True)
    drawn = {
        "framework": framework.draw(),
        "one_image": one_image.draw(evaluation(dataset)),
        "dataset_bars": dataset_bars.draw(results),
        "ablations": ablations.draw(swept),
        "sweeps": sweeps.draw(swept),
        "qualitative": qualitative.draw(evaluation(dataset)),
        "prompt_similarity": prompt_similarity.draw(lesson),
        "training_curves": training_curves.draw(log),
        "mini_samples": mini_samples.draw(),
        "mini_pretraining": mini_pretraining.draw(pretraining),
    }
    assert set(drawn) == set(every.SCRIPTS)
    for figure in drawn.values():
        figure.draw_without_rendering()
        plt.close(figure)


def test_maps_share_one_scale(dataset):
    drawn = qualitative.draw(evaluation(dataset))
    limits = {image.get_clim() for axis in drawn.axes for image in axis.images if image.get_array().ndim == 2}
    assert limits == {(0, 1)}


def test_a_figure_becomes_a_pdf_and_a_png_and_the_same_bytes_again(home, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "PUBLISHED", tmp_path)
    made = save_figure(framework.draw(), "framework", "png")
    assert made == [
        home / "build" / "figures" / "framework.pdf",
        home / "build" / "figures" / "framework.png",
        tmp_path / "framework.png",
    ]
    first = [path.read_bytes() for path in made]
    assert first[0].startswith(b"%PDF")
    assert b"CreationDate" not in first[0]
    assert first[1].startswith(b"\x89PNG")
    assert len(first[2]) < len(first[1])
    assert [path.read_bytes() for path in save_figure(framework.draw(), "framework", "png")] == first


def test_a_grids_datasets_are_shown_beside_reported_values(home):
    table = pd.DataFrame(
        {
            "method": "faprompt",
            "title": "FAPrompt",
            "mode": "paper",
            "dataset": ["visa", "btad"],
            "level": "image",
            "metric": "auroc",
        }
    ).assign(obtained=[83.0, 91.0], reported=[84.6, 92.0])
    place = home / "runs" / "grid-x" / "results"
    place.mkdir(parents=True)
    table.to_csv(place / "comparison.csv")
    made = dataset_bars.main(grid="runs/grid-x")
    assert [path.name for path in made] == ["dataset_bars-grid-x.pdf", "dataset_bars-grid-x.png"]
    assert all(path.stat().st_size > 1000 for path in made)


@pytest.mark.parametrize(
    ("script", "options", "command"),
    [
        ("qualitative", [], "make demo"),
        ("training_curves", [], "make demo"),
        ("prompt_similarity", [], "make demo"),
        ("dataset_bars", ["--grid", "runs/grid-x"], "make paper"),
        ("mini_pretraining", ["--log", "absent.jsonl"], "fap mini pretrain"),
    ],
)
def test_a_missing_run_is_one_sentence(script, options, command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [script, *options])
    with pytest.raises(SystemExit) as end:
        figures.run(import_module(f"figures.{script}").main)
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("there is no ")
    assert command in said.err
    assert said.err.count("\n") == 1


def test_all_are_drawn_though_one_fails(home, monkeypatch, capsys):
    monkeypatch.setattr(every, "SCRIPTS", ("qualitative", "framework"))
    with pytest.raises(KitError, match="1 of 2 figures could not be drawn: qualitative"):
        every.main()
    assert (home / "build" / "figures" / "framework.pdf").is_file()
    assert "make demo" in capsys.readouterr().err


# What pages say of them


def test_every_script_says_what_it_reads_and_how_to_run_it():
    # The explorer's picture is a browser's, which `lab` starts.
    others = {"__init__", "__main__", "explorer", "lab"}
    files = {path.stem for path in (paths.REPOSITORY / "figures").glob("*.py")}
    assert files - others == set(every.SCRIPTS)
    for name in every.SCRIPTS:
        text = import_module(f"figures.{name}").__doc__
        assert f"python -m figures.{name}" in text
        assert "reads " in text.lower().replace("reads:", "reads ")
        assert f"[{name}](../figures/{name}.py)" in PAGES["docs/figures.md"], "it names the run behind each"


def test_the_pages_pictures_are_small_and_described():
    pictures = [
        found
        for text in PAGES.values()
        for found in re.findall(r"!\[(.*?)\]\((?:\.\./)?figures/(.*?)\)", text, flags=re.DOTALL)
    ]
    assert {name for _, name in pictures} >= {f"{name}.png" for name in SHOWN}
    for text, name in pictures:
        assert len(text) > 60, f"{name} needs an alternative text"
        assert (paths.REPOSITORY / "figures" / name).stat().st_size < 150_000
    assert len(framework.ALT) > 60
