"""What notebooks 2 and 3 say of the shipped prompts, on fresh images; and the functions they ask."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from benchmarks import study_tables
from data_prep.mini import benchmark, sets
from fap_lib.cap import orthogonality_loss, prototype
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.dap import select_patches
from fap_lib.evaluation.patches import auroc
from fap_lib.lessons import study
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.lessons.probing import (
    Evidence,
    agreement,
    ask,
    by_group,
    even_sample,
    held_out,
    pairs,
    under,
)
from fap_lib.model import FAPrompt
from fap_lib.pictures.prompts import before_and_after, each_prompt, layout, length_histograms
from fap_lib.runs.parameters import LessonRun, PriorRun

SMALL = replace(sets.SETS["mini-test"], good=6, each=1, train=1)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lesson]]:
    """The shipped prompts of both modes, with a small draw that no notebook uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAP_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setitem(sets.SETS, "mini-test", SMALL)
        name = sets.named("mini-test", 7)
        benchmark.generate(paths.dataset(name), name)
        yield {mode: open_lesson(LessonRun(data=name, prompts=mode)) for mode in ("paper", "released")}


@pytest.fixture(scope="module")
def found(lessons) -> dict[str, Evidence]:
    return {mode: ask(lesson) for mode, lesson in lessons.items()}


@pytest.fixture(scope="module")
def static(lessons):
    with torch.inference_mode():
        return lessons["paper"].model.static_text()


# Notebook 2


def test_learned_prompts_are_orthogonal_and_untrained_ones_alike(lessons, static):
    model = lessons["paper"].model
    torch.manual_seed(0)
    fresh = FAPrompt(model.text_tower, model.settings, lessons["paper"].backbone.patch_width)
    with torch.inference_mode():
        assert orthogonality_loss(fresh.static_text().abnormal) > 35
    assert orthogonality_loss(static.abnormal) < 2
    assert pairs(static.abnormal).abs().sum() == pytest.approx(
        float(orthogonality_loss(static.abnormal)), 1e-4
    )


def test_only_learned_prompts_are_quietened_by_their_prototype(lessons, found):
    lesson, one = lessons["paper"], found["paper"]
    torch.manual_seed(0)
    fresh = FAPrompt(lesson.model.text_tower, lesson.model.settings, lesson.backbone.patch_width)
    nothing, normal = ask(replace(lesson, model=fresh)), one.label == 0
    assert one.static[normal].mean() < 0.5 * one.maps[normal].mean()
    assert nothing.static[normal].mean() > 0.9 * nothing.maps[normal].mean()
    off = ~torch.eye(10, dtype=torch.bool)
    assert agreement(nothing.maps)[off].mean() > agreement(one.maps)[off].mean()


def test_the_prototype_is_close_to_no_prompt_and_lengths_hardly_matter(static):
    unit = F.normalize(static.abnormal, dim=-1)
    whole = prototype(static.abnormal)
    assert (unit @ whole - len(unit) ** -0.5).abs().max() < 0.06
    assert unit.mean(0).norm() == pytest.approx(len(unit) ** -0.5, abs=0.02)
    assert whole @ prototype(unit) > 0.995


def test_prompts_raise_more_false_alarms_than_their_prototype(found):
    one = found["paper"]
    normal = one.label == 0
    assert one.maps[normal].mean() > 1.5 * one.static[normal].mean()
    same = agreement(one.maps)
    off = same[~torch.eye(len(same), dtype=torch.bool)]
    assert 0.2 < off.mean() < 0.8


def test_every_map_beats_chance_on_categories_never_trained_on(lessons, found, static):
    one, lesson = found["paper"], lessons["paper"]
    patches = lesson.cache.features(np.arange(len(lesson.cache)))[1]
    maps = [one.static, one.adapted, one.maps.mean(1), one.maps.amax(1), -(patches @ static.normal)]
    for values in maps:
        assert auroc(values, one.anomalous) > 0.7
        assert roc_auc_score(one.label, values.amax(1)) > 0.7
    each = [auroc(values, one.anomalous) for values in one.maps.unbind(1)]
    assert sum(value < auroc(one.static, one.anomalous) for value in each) >= 7


def specialists(noise: float) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Three maps of ten images each of three groups; map k finds group k alone, up to noise."""
    random = torch.manual_seed(0)
    groups = [name for name in "abc" for _ in range(10)]
    anomalous = torch.rand(30, 20, generator=random) < 0.3
    maps = torch.rand(30, 3, 20, generator=random)
    for place, name in enumerate(groups):
        maps[place, "abc".index(name)] += (1 - noise) * anomalous[place]
    return maps, anomalous, groups


def test_specialists_are_found_where_they_are():
    maps, anomalous, groups = specialists(noise=0)
    table = by_group(maps, anomalous, groups)
    assert table.idxmax(axis=1).tolist() == [0, 1, 2]
    result = held_out(maps, maps.mean(1), anomalous, groups)
    assert result["same"] == 1
    assert result["chosen"] == pytest.approx(result["hindsight"])
    assert result["chosen"] > 0.05


def test_no_specialist_is_found_in_noise():
    maps, anomalous, groups = specialists(noise=1)
    result = held_out(maps, maps.mean(1), anomalous, groups, rounds=8)
    assert result["same"] < 0.7
    assert result["chosen"] < result["hindsight"]


def test_groups_without_both_kinds_of_patches_are_left_out():
    maps, anomalous, groups = specialists(noise=0)
    anomalous[:10] = False
    assert by_group(maps, anomalous, groups).index.tolist() == ["b", "c"]


def test_specialists_of_the_learned_prompts_gain_little(found):
    one = found["paper"]
    result = held_out(one.maps, one.static, one.anomalous, one.defects, rounds=1, least=4)
    assert result["chosen"] < 0.06
    assert result["same"] > 0.1


def test_an_even_sample_spans_the_dataset(lessons):
    cache = lessons["paper"].cache
    assert even_sample(cache).tolist() == list(range(len(cache)))
    few = even_sample(cache, patches=10 * cache.patches.shape[1])
    assert len(few) == 10
    assert few[0] == 0
    assert few[-1] == len(cache) - 1


def test_a_single_pass_is_the_same_in_any_batches(lessons):
    index = [3, 1, 40]
    one, other = (ask(lessons["paper"], index, batch=size) for size in (2, 32))
    assert torch.allclose(one.adapted, other.adapted, atol=1e-5)
    assert one.defects == [lessons["paper"].cache.records[place].defect for place in index]


def test_pictures_have_a_panel_for_everything(lessons, found):
    cache, one = lessons["paper"].cache, found["paper"]
    figure = each_prompt(cache, [0, 9], one.maps[[0, 9]], one.static[[0, 9]])
    assert len([axis for axis in figure.axes if axis.images]) == 2 * (1 + 1 + 10)
    figure = before_and_after(cache, [9], one.static[[9]], one.adapted[[9]])
    assert [image.get_clim() for axis in figure.axes[1:4] for image in axis.images] == [
        (0, 1),
        (0, 1),
        (-1, 1),
    ]
    names = [text.get_text() for text in layout(5, 2, 10, ("damaged", "object")).axes[0].texts]
    assert names.count("V5") == 4
    assert names.count("A2") == 3
    assert "abnormal 10" in names
    lengths = (one.label, one.prediction.prior.norm(dim=-1))
    assert len(length_histograms({"a": lengths, "b": lengths}).axes) == 2


# Notebook 3


def test_the_papers_patches_lie_on_defects_and_the_released_ones_do_not(found):
    shares = {}
    for mode, one in found.items():
        sick = torch.tensor(one.label == 1)
        shares[mode] = float(one.anomalous.gather(1, one.prediction.chosen)[sick].float().mean())
        chance = float(one.anomalous[sick].float().mean())
    assert shares["paper"] > 4 * chance
    assert shares["released"] < chance
    count = found["released"].prediction.chosen.shape[1]
    assert (found["released"].prediction.chosen == torch.arange(count)).all()


def test_the_order_of_patches_matters(lessons, found):
    lesson, one = lessons["paper"], found["paper"]
    patches = lesson.cache.features(np.arange(len(lesson.cache)))[1]
    selected, _ = select_patches(patches, one.static, lesson.model.settings.n_patches, "most_abnormal")
    with torch.inference_mode():
        prior, turned = (lesson.model.prior_network(each) for each in (selected, selected.flip(1)))
    assert torch.allclose(prior, one.prediction.prior, atol=1e-4)
    assert (turned - prior).norm(dim=-1).mean() > 0.1 * prior.norm(dim=-1).mean()


def test_the_prior_is_longer_than_the_tokens_and_undoes_the_right_angles(lessons, found, static):
    model, prior = lessons["paper"].model, found["paper"].prediction.prior
    tokens = model.prompts.abnormal.detach().norm(dim=-1)
    assert prior.norm(dim=-1).mean() > 3 * tokens.mean()
    with torch.inference_mode():
        adapted = model.adapted_text(static.prefix, prior)
    assert pairs(adapted).abs().sum(-1).median() > 35  # of 45
    towards = prototype(adapted) @ static.normal
    assert towards.mean() > 0 > prototype(static.abnormal) @ static.normal
    assert orthogonality_loss(static.abnormal) < 2


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_normal_images_have_shorter_but_not_short_priors(lessons, found, mode):
    one = found[mode]
    lengths = one.prediction.prior.norm(dim=-1)
    normal, anomalous = (lengths[torch.tensor(one.label == label)].mean() for label in (0, 1))
    assert anomalous > 1.5 * normal
    assert normal > 2 * lessons[mode].model.prompts.abnormal.detach().norm(dim=-1).mean()


def test_patches_beside_the_defect_tell_as_much(found):
    one = found["released"]
    untouched = ~one.anomalous.gather(1, one.prediction.chosen).any(1)
    assert untouched[torch.tensor(one.label == 1)].float().mean() > 0.8
    assert roc_auc_score(one.label[untouched], one.prediction.prior.norm(dim=-1)[untouched]) > 0.7


def test_the_adapted_map_lifts_defects_most_and_normal_images_least(found):
    one = found["paper"]
    change, sick = one.adapted - one.static, torch.tensor(one.label == 1)
    lifted = change[one.anomalous].mean(), change[sick][~one.anomalous[sick]].mean(), change[~sick].mean()
    assert lifted[0] > lifted[1] > lifted[2] > 0.05


def test_swapped_priors(lessons, found, static):
    lesson, one = lessons["paper"], found["paper"]
    image, patches = lesson.cache.features(np.arange(len(lesson.cache)))
    own = one.prediction.prior
    lot = torch.randperm(len(own), generator=torch.manual_seed(0))
    priors = {"own": own, "another": own[lot], "constant": own.mean(0, keepdim=True), "none": own[:1] * 0}
    with torch.inference_mode():
        maps, probability = zip(
            *(under(lesson.model, image, patches, static, prior) for prior in priors.values()), strict=True
        )
    assert torch.allclose(maps[0], one.adapted, atol=1e-4)
    assert torch.allclose(probability[0], one.prediction.image_probability, atol=1e-4)
    assert torch.allclose(maps[3], one.static, atol=1e-4)
    by_patch = [auroc(values, one.anomalous) for values in maps]
    assert by_patch[1] < by_patch[0] - 0.02  # a wrong prior hurts
    assert by_patch[2] > by_patch[0] - 0.03  # a constant one does not
    by_image = [roc_auc_score(one.label, values) for values in probability]
    assert by_image[2] < by_image[0] - 0.02


def test_the_study_says_what_the_notebook_reads_from_it():
    trainings, random = study.load_study(), "CAP + DAP, random patches"
    over_cap = study.differences(trainings, (random, study.FULL), over="CAP").set_index(["method", "metric"])
    aupro = [over_cap.loc[(name, "aupro_official"), "mean"] for name in (random, study.FULL)]
    assert aupro[1] > aupro[0] > 0.5 * aupro[1]
    assert not excludes_zero(over_cap.loc[(random, "pixel_auroc")])
    assert not excludes_zero(over_cap.loc[(study.FULL, "image_auroc")])
    over_random = study.differences(trainings, (study.FULL,), over=random).set_index("metric")
    assert excludes_zero(over_random.loc["pixel_auroc"])
    assert not excludes_zero(over_random.loc["image_auroc"])
    organs = study.differences(trainings, (study.FULL,), over="CAP", test=study.ORGANS)
    pixel = organs.set_index("metric").loc["pixel_auroc"]
    assert pixel["mean"] + pixel["half"] < 0


def test_tables_and_notebooks_have_one_way_to_compare():
    trainings, random = study.load_study(), "CAP + DAP, random patches"
    shown = study.differences(trainings, (study.FULL,), over=random).set_index("metric")
    for metric in study.COMPARED:
        mean, half = study_tables.gain(trainings, study.FULL, random, metric, study.TEST)
        assert (100 * mean, 100 * half) == pytest.approx(tuple(shown.loc[metric, ["mean", "half"]]))


def excludes_zero(row) -> bool:
    return abs(row["mean"]) > row["half"]


def test_both_sets_of_prompts_must_be_named():
    with pytest.raises(KitError, match="released"):
        PriorRun.parse({"data": "mini-test", "prompts": "paper"})
