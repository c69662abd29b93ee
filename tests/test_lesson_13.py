"""Notebook 13: each judge lets the library's piece through and stops a wrong one where it is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_prep.mini import benchmark, sets
from fap_lib import cap, dap, model
from fap_lib.core import paths
from fap_lib.lessons import building
from fap_lib.lessons.exercises import Step, exercises
from fap_lib.lessons.lesson import open_lesson
from fap_lib.runs.parameters import LessonRun

EXERCISES = exercises("13")

RIGHT = {
    "13.1": model.class_logits,
    "13.2": building.two_texts,
    "13.3": cap.CompoundPrompts,
    "13.4": cap.prototype,
    "13.5": cap.orthogonality_loss,
    "13.6": building.most_abnormal,
    "13.7": dap.PriorNetwork,
    "13.8": building.adapted_text,
    "13.9": model.FAPrompt,
    "13.10": building.training_step,
}
"""The library's pieces, by exercise."""


class SmallerPrompts(cap.CompoundPrompts):
    def abnormal_suffix(self, prior=None):
        return super().abnormal_suffix(None if prior is None else -prior)


class Linear(dap.PriorNetwork):
    def forward(self, patches):
        return self.linear2(self.linear1(patches.flatten(1)))


class Swapped(model.FAPrompt):
    def forward(self, *given):
        found = super().forward(*given)
        return found._replace(static=found.adapted, adapted=found.static)


def least_abnormal(patches, abnormal, count):
    return building.most_abnormal(patches, -abnormal, count)


def without_a_gradient(tower, tokens, normal, abnormal):
    return building.two_texts(tower, tokens.detach(), normal, abnormal).requires_grad_()


def uphill(model, optimiser, image, patches, label, mask, settings):
    return building.training_step(model, optimiser, image, patches, 1 - label, mask, settings)


WRONG = {
    "13.1": (lambda features, text, _: features @ text.mT, "not equal"),
    "13.2": (without_a_gradient, "No gradient"),
    "13.3": (SmallerPrompts, "suffixes with priors"),
    "13.4": (lambda features: F.normalize(F.normalize(features, dim=-1).mean(-2), dim=-1), "not equal"),
    "13.5": (lambda features: cap.orthogonality_loss(features) / 45, "not equal"),
    "13.6": (least_abnormal, "most abnormal first"),
    "13.7": (Linear, "the authors' prior"),
    "13.8": (lambda tower, prefix, suffixes: tower.suffix(prefix, suffixes.flatten(0, 1)), "should be"),
    "13.9": (Swapped, "image_score"),
    "13.10": (uphill, "before step 1"),
}
"""Pieces with a mistake, and what the step that stops them says."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[building.Sample]:
    """A small draw that no notebook uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAP_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setitem(
            benchmark.SETS, "mini-test", replace(benchmark.SETS["mini-test"], good=6, each=1, train=1)
        )
        name = sets.named("mini-test", 7)
        benchmark.generate(paths.dataset(name), name)
        yield building.sample(open_lesson(LessonRun(data=name, prompts="paper")))


def steps(number: str, answer, sample: building.Sample) -> list[Step]:
    judge = EXERCISES[number].judge
    given = {"sample": sample} if "sample" in judge.__code__.co_varnames else {}
    found = []
    for step in judge(answer, **given):
        found.append(step)
        if not step.passed:
            break
    return found


def test_all_exercises_are_tried_here():
    assert set(EXERCISES) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("number", EXERCISES)
def test_the_librarys_piece_passes_every_step(number, sample):
    found = steps(number, RIGHT[number], sample)
    assert all(step.passed for step in found), found[-1].said
    said = " ".join(step.said for step in found)
    assert "equal to" in said
    if number != "13.3":  # prompts alone have no metric
        assert any(word in said for word in ("AUROC", "alarms", "share", "loss", "gradient"))


@pytest.mark.parametrize("number", EXERCISES)
def test_a_wrong_piece_is_stopped_where_it_is_wrong(number, sample):
    answer, said = WRONG[number]
    last = steps(number, answer, sample)[-1]
    assert not last.passed
    assert said in last.said


def test_a_set_that_is_turned_over_is_the_opposite_in_labels_and_pixels():
    labels = [0, 1, 1]
    masks = torch.tensor(labels)[:, None, None] * (torch.arange(9).view(3, 3) == 4)
    right = SimpleNamespace(labels=labels, masks=lambda index: masks[index], digest="d")
    over = building.TurnedOver(right)
    assert over.labels == [1, 0, 0]
    assert over.digest != right.digest
    assert torch.equal(over.masks(np.array([2, 0])).int(), 1 - masks[[2, 0]])
