"""Notebook 13: FAPrompt, built by oneself.

Each piece is judged in steps: its shapes; equality with the library, or with what the authors' code computed
for a tiny model (`tests/golden/tiny.npz`); and a metric on the lesson's images.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fap_lib.cap import orthogonality_loss, prototype
from fap_lib.clip.text_tower import TextTower
from fap_lib.core.config import TrainSettings
from fap_lib.evaluation.patches import auroc
from fap_lib.lessons.building import Sample, golden, most_abnormal, two_texts
from fap_lib.lessons.exercises import Exercise, Step
from fap_lib.model import FAPrompt, class_logits
from fap_lib.official import parity
from fap_lib.training import make_optimiser


def _shape(found: Any, wanted: tuple[int, ...], of: str = "") -> Step:
    given = tuple(found.shape) if isinstance(found, Tensor) else f"no tensor, but {type(found).__name__}"
    if given == wanted:
        return Step(True, f"shape {of}{wanted}")
    return Step(False, f"The shape {of}should be {wanted}; yours is {given}.")


def _equal(found: Any, wanted: Any, what: str, limit: float = 1e-5) -> Step:
    """Equality within a relative error, with the library's tensor or the official array."""
    reference = wanted.detach().cpu().numpy() if isinstance(wanted, Tensor) else np.asarray(wanted)
    error = parity.relative_error(found.cpu() if isinstance(found, Tensor) else found, reference)
    if error <= limit:
        return Step(True, f"equal to {what}")
    return Step(False, f"The shape is right, but it is not equal to {what}.")


def _better(value: float, base: float, what: str, than: str) -> Step:
    said = f"{what} {value:.2f}, {than} {base:.2f}"
    return Step(value > base, said if value > base else f"It should rise: {said}.")


def _lower(value: float, base: float, what: str, than: str) -> Step:
    said = f"{what} {value:.2f}, {than} {base:.2f}"
    return Step(value < base, said if value < base else f"It should fall: {said}.")


# The judges


def _class_logits(answer: Callable[..., Tensor], sample: Sample) -> Iterator[Step]:
    one = golden()
    text = torch.from_numpy(one.theirs["text_adapted"])
    found = answer(one.patches, text, 0.07)
    yield _shape(found, (3, 25, 2))
    yield _equal(found, class_logits(one.patches, text, 0.07), "the library's")
    evidence, patches, static = sample.found, sample.patches, sample.static
    text = torch.stack([static.normal, prototype(static.abnormal)]).expand(len(patches), -1, -1)
    with torch.inference_mode():
        values = answer(patches, text, sample.model.settings.temperature).softmax(-1)[..., 1]
    yield _better(auroc(values, evidence.anomalous) or 0, 0.5, "patch AUROC", "chance")


def _two_texts(answer: Callable[..., Tensor], sample: Sample) -> Iterator[Step]:
    tower = sample.model.text_tower
    words = tower.embed("object."), tower.embed("damaged object.")
    tokens = 0.1 * torch.randn(5, tower.width, generator=torch.manual_seed(0))
    tokens = tokens.to(sample.patches.device).requires_grad_()
    found = answer(tower, tokens, *words)
    yield _shape(found, (2, sample.patches.shape[2]))
    yield _equal(found, two_texts(tower, tokens, *words), "the library's")
    found[1].sum().backward()
    reached = tokens.grad is not None and bool((tokens.grad.norm(dim=-1) > 0).all())
    yield Step(reached, "a gradient reaches each token" if reached else "No gradient reaches the tokens.")


def _prompts(answer: type[nn.Module]) -> Iterator[Step]:
    theirs = golden().model
    tower, settings = theirs.text_tower, theirs.settings
    sizes = {
        name: getattr(settings, name)
        for name in ("n_prompts", "normal_tokens", "abnormal_tokens", "deep_layers", "deep_tokens")
    }
    own: Any = answer(tower.embed("object."), tower.embed("damaged object."), **sizes)
    for name, parameter in theirs.prompts.named_parameters():
        yield _shape(getattr(own, name), tuple(parameter.shape), f"of {name} ")
    learned = {name for name, _ in own.named_parameters()}
    right = learned == {"normal", "abnormal", "deep"}
    yield Step(right, f"learned: {', '.join(sorted(learned))}" if right else "Three parameters are learned.")
    small = all(0.01 < float(parameter.detach().std()) < 0.03 for parameter in own.parameters())
    yield Step(small, "drawn small" if small else "Draw with a standard deviation of 0.02.")
    own.load_state_dict(theirs.prompts.state_dict(), strict=False)
    prior = torch.randn(3, tower.width, generator=torch.manual_seed(0))
    yield _equal(own.prefix(), theirs.prompts.prefix(), "the library's prefix")
    yield _equal(own.abnormal_suffix(), theirs.prompts.abnormal_suffix(), "its suffixes without a prior")
    yield _equal(
        own.abnormal_suffix(prior), theirs.prompts.abnormal_suffix(prior), "its suffixes with priors"
    )


def _prototype(answer: Callable[[Tensor], Tensor], sample: Sample) -> Iterator[Step]:
    features = torch.from_numpy(golden().theirs["text_abnormal"])
    yield _shape(answer(features), (features.shape[1],))
    yield _shape(answer(features.expand(3, -1, -1)), (3, features.shape[1]), "of a batch ")
    yield _equal(answer(features), prototype(features), "the library's")
    evidence, patches, static = sample.found, sample.patches, sample.static
    normal = torch.tensor(evidence.label == 0)
    difference = answer(static.abnormal) - static.normal
    alarm = (patches @ difference / sample.model.settings.temperature).sigmoid().cpu()[normal].mean()
    alone = evidence.maps[normal].mean()
    yield _lower(100 * float(alarm), 100 * float(alone), "false alarms (%)", "single prompts'")


def _orthogonality(answer: Callable[[Tensor], Tensor]) -> Iterator[Step]:
    theirs = golden().theirs
    features = torch.from_numpy(theirs["text_abnormal"])
    yield _shape(answer(features), ())
    yield _equal(answer(features), theirs["loss_orthogonal"], "the authors'")
    vectors = (1 + 0.3 * torch.randn(6, 16, generator=torch.manual_seed(0))).requires_grad_()
    before = float(orthogonality_loss(vectors).detach())
    optimiser = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        answer(vectors).backward()
        optimiser.step()
    after = float(orthogonality_loss(vectors).detach())
    yield _lower(after, before / 5, "after 60 steps downhill the loss is", "a fifth of what it was is")


def _most_abnormal(answer: Callable[..., tuple[Tensor, Tensor]], sample: Sample) -> Iterator[Step]:
    one = golden()
    with torch.inference_mode():
        prediction = one.model(one.image, one.patches)
    features, index = answer(one.patches, prediction.static[..., 1], 10)
    yield _shape(features, (3, 10, one.patches.shape[2]), "of the features ")
    yield _shape(index, (3, 10), "of the indices ")
    yield _equal(index, one.theirs["top10_index"], "the authors' indices, most abnormal first")
    yield _equal(features, most_abnormal(one.patches, prediction.static[..., 1], 10)[0], "their features")
    evidence, patches = sample.found, sample.patches
    anomalous = torch.tensor(evidence.label == 1)
    _, index = answer(patches.cpu(), evidence.static, sample.model.settings.n_patches)
    share = evidence.anomalous.gather(1, index)[anomalous].float().mean()
    chance = evidence.anomalous[anomalous].float().mean()
    yield _better(float(share), float(chance), "share under the mask", "by chance")


def _prior_network(answer: type[nn.Module], sample: Sample) -> Iterator[Step]:
    one = golden()
    theirs: Any = one.model.prior_network
    with torch.inference_mode():
        static = one.model(one.image, one.patches).static
    selected, _ = most_abnormal(one.patches, static[..., 1], 10)
    own = answer(10, one.patches.shape[2], one.model.text_tower.width)
    own.load_state_dict(theirs.state_dict())
    found = own(selected)
    yield _shape(found, (3, one.model.text_tower.width))
    yield _equal(found, one.theirs["prior"], "the authors' prior")
    evidence, patches = sample.found, sample.patches
    model: Any = sample.model
    own = answer(model.settings.n_patches, patches.shape[2], model.text_tower.width).to(patches.device)
    own.load_state_dict(model.prior_network.state_dict())
    selected, _ = most_abnormal(patches, evidence.static.to(patches.device), model.settings.n_patches)
    with torch.inference_mode():
        length = own(selected).norm(dim=-1).cpu()
    value = auroc(length, torch.tensor(evidence.label == 1)) or 0
    yield _better(value, 0.5, "image AUROC of the prior's length", "chance")


def _adapted_text(answer: Callable[..., Tensor], sample: Sample) -> Iterator[Step]:
    one = golden()
    with torch.inference_mode():
        static = one.model.static_text()
        suffixes = one.model.prompts.abnormal_suffix(torch.from_numpy(one.theirs["prior"]))
        found = answer(one.model.text_tower, static.prefix, suffixes)
    yield _shape(found, (3, 10, one.patches.shape[2]))
    yield _equal(prototype(found), one.theirs["text_adapted"][:, 1], "the authors', as prototypes")
    evidence, patches, static = sample.found, sample.patches, sample.static
    model = sample.model
    prior = evidence.prediction.prior
    assert prior is not None
    with torch.inference_mode():
        suffixes = model.prompts.abnormal_suffix(prior.to(patches.device))
        texts = prototype(answer(model.text_tower, static.prefix, suffixes))
        values = (patches @ (texts - static.normal)[..., None])[..., 0]
    base = auroc(evidence.static, evidence.anomalous) or 0
    yield _better(auroc(values, evidence.anomalous) or 0, base, "patch AUROC", "without a prior")


def _faprompt(answer: type[nn.Module], sample: Sample) -> Iterator[Step]:
    one = golden()
    tower = one.model.text_tower
    own = _loaded(answer, one.model, tower, one.patches.shape[2])
    with torch.inference_mode():
        found = own(one.image, one.patches, own.static_text())
    for name, shape in (("static", (3, 25, 2)), ("adapted", (3, 25, 2)), ("image_logits", (3, 2))):
        yield _shape(getattr(found, name), shape, f"of {name} ")
    for name, value in (
        ("top10_index", found.chosen),
        ("prior", found.prior),
        ("text_adapted", found.text),
        ("image_logits", found.image_logits),
        ("image_score", found.score),
    ):
        yield _equal(value, one.theirs[name], f"the authors' {name}")
    evidence, image, patches = sample.found, sample.image, sample.patches
    own = _loaded(answer, sample.model, sample.model.text_tower, patches.shape[2]).to(patches.device)
    with torch.inference_mode():
        values = own(image, patches).patch_map
    yield _better(auroc(values, evidence.anomalous) or 0, 0.5, "patch AUROC", "chance")


def _loaded(answer: type[nn.Module], model: FAPrompt, tower: TextTower, width: int) -> Any:
    own = answer(tower, model.settings, width)
    own.load_state_dict(model.state_dict(), strict=False)
    return own


def _training_step(answer: Callable[..., float]) -> Iterator[Step]:
    one, settings = golden(), TrainSettings()
    optimiser = make_optimiser(one.model, settings)
    found = []
    for step in range(3):
        with torch.enable_grad():
            total = answer(one.model, optimiser, one.image, one.patches, one.label, one.mask, settings)
        if step == 0:
            number = np.ndim(total) == 0
            yield Step(number, "one number" if number else "A step should return the total loss, a number.")
        found.append(float(total))
        limit = 1e-5 if step == 0 else 1e-3
        yield _equal(
            np.asarray(found[-1], dtype=np.float32),
            one.theirs[f"train_total/{step}"],
            f"the authors' loss before step {step + 1}",
            limit,
        )
    yield _lower(found[2], found[0], "loss after two steps", "before")


EXERCISES = {
    "13.1": Exercise(
        _class_logits,
        (
            "The cosine of two unit vectors is their product: one matrix product has all of an image.",
            "(B, N, D) times (B, D, C): turn the last two axes of `text` with `.mT`.",
            "`features @ text.mT / temperature`",
        ),
    ),
    "13.2": Exercise(
        _two_texts,
        (
            "`tower.prompts` wants what both prompts share, the deep tokens, and a list of endings.",
            "Shared are the start token, `normal[:1]`, and the learnable tokens; `torch.cat` joins them.",
            "It returns two things; the second is (2, D) and not of unit length yet: `F.normalize`.",
        ),
    ),
    "13.3": Exercise(
        _prompts,
        (
            "Each parameter is `nn.Parameter(0.02 * torch.randn(...))`; only the shapes differ.",
            "`prefix` joins `self.start` and `self.normal`.",
            "A prior (B, w) meets tokens (K, E', w) as `prior[:, None, None]`.",
            "The end must fit the tokens: `self.abnormal_end.expand(*tokens.shape[:-2], -1, -1)`.",
        ),
    ),
    "13.4": Exercise(
        _prototype,
        (
            "First the mean, then the length: the other order is another prototype (notebook 2).",
            "K is the last axis but one, `dim=-2`, with or without a batch in front.",
        ),
    ),
    "13.5": Exercise(
        _orthogonality,
        (
            "Bring all features to unit length; then one product holds all cosines.",
            "Each pair stands in it twice, and each feature with itself: keep what is above the diagonal.",
            "`.abs().triu(diagonal=1).sum()`",
        ),
    ),
    "13.6": Exercise(
        _most_abnormal,
        (
            "`abnormal.topk(count, dim=1)` has values and indices.",
            "`patches.gather(1, ...)` takes features; its index needs the shape of what it gives, (B, M, D).",
            "`index[..., None].expand(-1, -1, patches.shape[-1])`",
        ),
    ),
    "13.7": Exercise(
        _prior_network,
        (
            "Two `nn.Linear`, called `linear1` and `linear2`, with a ReLU between them.",
            "The input is M times D wide, the hidden layer a sixteenth of that, at least 1.",
            "`patches.flatten(1)` lays the M features of an image end to end.",
        ),
    ),
    "13.8": Exercise(
        _adapted_text,
        (
            "`tower.suffix` reads many suffixes (S, L, w) at once: make one axis of B and K.",
            "`suffixes.flatten(0, 1)` does; `.unflatten(0, (B, K))` undoes it.",
        ),
    ),
    "13.9": Exercise(
        _faprompt,
        (
            "`static_text`: one call of `tower.prompts`, the normal suffix first, then the K abnormal ones.",
            "`forward`, first half: two texts (B, 2, D), their logits, a softmax: the static map.",
            "Second half: choose patches, psi, suffixes with the prior, adapted texts, their prototype;"
            " then logits and a softmax again.",
            "The global feature is an image with one patch: `class_logits(image[:, None], ...)[:, 0]`.",
        ),
    ),
    "13.10": Exercise(
        _training_step,
        (
            "Static texts, prediction, six terms, their weighted sum; then `zero_grad`, `backward`, `step`.",
            "Maps become pixels by `pixel_maps(prediction.static[..., 1], mask.shape[-1])`.",
            "The weights are `settings.pixel_static_weight` and so on: pixel_static, pixel_adapted, image_ce,"
            " image_focal, orthogonal, prior.",
        ),
    ),
}
