"""CAP, DAP, the model, the losses: properties that hold for every input."""

import pytest
import torch
import torch.nn.functional as F

from fap_lib.cap import CompoundPrompts, orthogonality_loss, prototype
from fap_lib.core.config import ModelSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.dap import prior_loss, select_patches
from fap_lib.losses import dice_loss, focal_loss, image_focal_loss
from fap_lib.model import FAPrompt
from fap_lib.training import losses


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.manual_seed(seed)), dim=-1)


@pytest.fixture
def model(backbone) -> FAPrompt:
    torch.manual_seed(0)
    return FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width).eval()


def test_orthogonality_loss_at_its_ends():
    assert orthogonality_loss(torch.eye(4)) == pytest.approx(0)
    assert orthogonality_loss(torch.ones(4, 3)) == pytest.approx(6)  # 4 * 3 / 2 parallel pairs
    assert orthogonality_loss(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(1)


def test_prototype_lets_long_features_weigh_more():
    features = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(prototype(features), F.normalize(torch.tensor([3.0, 1.0]), dim=0))


def test_selection_takes_the_most_abnormal_in_descending_order():
    patches = unit(2, 6, 4)
    abnormal = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.0, 0.3], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]])
    chosen, index = select_patches(patches, abnormal, 3, "most_abnormal")
    assert index.tolist() == [[1, 3, 5], [0, 1, 2]]
    assert torch.equal(chosen[0], patches[0, [1, 3, 5]])
    assert select_patches(patches, abnormal, 3, "first")[1].tolist() == [[0, 1, 2]] * 2


def test_random_selection_depends_on_the_seed_alone():
    patches, abnormal, seeds = unit(4, 30, 8), torch.zeros(4, 30), [1, 2, 2**64 - 1, 3]
    index = select_patches(patches, abnormal, 5, "random", seeds)[1]
    assert torch.equal(index[2:3], select_patches(unit(1, 30, 8), abnormal[:1], 5, "random", seeds[2:3])[1])
    assert len({tuple(row) for row in index.tolist()}) == 4
    assert all(len(set(row)) == 5 for row in index.tolist())
    with pytest.raises(KitError, match="pass `seeds`"):
        select_patches(patches, abnormal, 5, "random")


def test_prior_loss_counts_normal_images_only():
    prior = torch.tensor([[2.0, 0.0], [5.0, 5.0], [0.0, 4.0]])
    assert prior_loss(prior, torch.tensor([0, 1, 0])) == pytest.approx(2 + 8)
    assert prior_loss(prior, torch.tensor([1, 1, 1])) == 0


def test_focal_and_dice_by_hand():
    p, mask = torch.full((1, 2, 2), 0.25), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    expected = -(0.75**2 * torch.tensor(0.25).log() + 3 * 0.25**2 * torch.tensor(0.75).log()) / 4
    assert focal_loss(p, mask) == pytest.approx(float(expected), rel=1e-3)
    assert dice_loss(p, mask) == pytest.approx(1 - (2 * 0.25 + 1) / (1 + 1 + 1))


def test_image_focal_loss_cannot_reach_zero_as_released():
    assert image_focal_loss(torch.zeros(1), torch.zeros(1)) == pytest.approx(0.173, abs=5e-4)
    assert image_focal_loss(torch.ones(1), torch.ones(1)) == pytest.approx(0.023, abs=5e-4)


def test_predictions_are_probabilities_and_do_not_depend_on_the_batch(model):
    image, patches = unit(5, 64, seed=1), unit(5, 25, 64, seed=2)
    with torch.no_grad():
        static = model.static_text()
        together = model(image, patches, static)
        alone = model(image[3:4], patches[3:4], static)
    for value in (together.static, together.adapted):
        assert torch.allclose(value.sum(-1), torch.ones(5, 25))
    assert ((together.score > 0) & (together.score < 1)).all()
    assert torch.allclose(together.adapted[3], alone.adapted[0], atol=1e-6)
    assert torch.allclose(together.score[3], alone.score[0], atol=1e-6)


def test_sharing_the_static_text_changes_nothing(model):
    image, patches = unit(2, 64), unit(2, 25, 64)
    with torch.no_grad():
        assert torch.equal(model(image, patches).score, model(image, patches, model.static_text()).score)


def test_without_the_prior_the_adapted_prompts_are_the_static_ones(backbone):
    settings = ModelSettings(deep_layers=2, prior=False)
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    prediction = model(unit(2, 64), unit(2, 25, 64))
    assert prediction.prior is None
    assert prediction.chosen is None
    assert torch.equal(prediction.static, prediction.adapted)
    assert not [name for name, _ in model.named_parameters() if name.startswith("prior_network")]


def test_the_mean_of_one_prompt_is_that_prompt(backbone):
    settings = ModelSettings(deep_layers=2, n_prompts=1, prior=False)
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    patches = unit(2, 25, 64)
    with torch.no_grad():
        static = model.static_text()
        whole = model(unit(2, 64), patches, static).static[..., 1]
        assert torch.allclose(model.prompt_maps(patches, static)[:, 0], whole, atol=1e-6)


def test_adapted_maps_of_single_prompts_are_those_of_their_image(backbone):
    settings = ModelSettings(deep_layers=2, n_prompts=1)
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    patches = unit(2, 25, 64)
    with torch.no_grad():
        static = model.static_text()
        prediction = model(unit(2, 64), patches, static)
        maps = model.prompt_maps(patches, static, prediction.prior)
    assert torch.allclose(maps[:, 0], prediction.adapted[..., 1], atol=1e-6)
    assert not torch.allclose(maps[:, 0], prediction.static[..., 1], atol=1e-6)


def test_gradients_reach_every_parameter_and_no_frozen_weight(model, backbone):
    model.train()
    static = model.static_text()
    label, mask = torch.tensor([0, 1, 1]), torch.zeros(3, 70, 70)
    mask[1:, 10:30, 10:30] = 1
    prediction = model(unit(3, 64), unit(3, 25, 64), static)
    losses(prediction, static, label, mask, TrainSettings())["total"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in backbone.clip.parameters())
    assert not {name for name in model.state_dict() if "block" in name or "embedding" in name}


def test_as_many_patches_wanted_as_there_are(backbone):
    settings = ModelSettings(deep_layers=2, n_patches=9)
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    chosen = model(unit(2, 64), unit(2, 9, 64)).chosen
    assert sorted(chosen[0].tolist()) == list(range(9))


def test_the_bias_is_on_the_abnormal_logit_and_patches_and_images_have_their_own(backbone):
    """Three rows of the study rest on it."""
    settings = ModelSettings(deep_layers=2, logit_bias=True, prior=False)
    model = FAPrompt(backbone.text_tower, settings, backbone.patch_width)
    image, patches = unit(2, 64), unit(2, 25, 64)
    with torch.no_grad():
        plain = model(image, patches)
        model.bias.copy_(torch.tensor([1.0, -2.0]))
        biased = model(image, patches)
    odds = biased.static.logit()[..., 1] - plain.static.logit()[..., 1]
    assert torch.allclose(odds, torch.full_like(odds, 1.0), atol=1e-4)
    change = biased.image_logits - plain.image_logits
    assert torch.allclose(change, torch.tensor([0.0, -2.0]).expand(2, -1), atol=1e-5)


def test_all_prompts_begin_with_a_standard_deviation_of_two_hundredths():
    torch.manual_seed(0)
    words = torch.zeros(3, 512)
    prompts = CompoundPrompts(
        words, words, n_prompts=10, normal_tokens=5, abnormal_tokens=2, deep_layers=8, deep_tokens=4
    )
    for name in ("normal", "abnormal", "deep"):
        tokens = getattr(prompts, name).detach()
        assert float(tokens.std()) == pytest.approx(0.02, rel=0.05), name
        assert float(tokens.mean()) == pytest.approx(0, abs=0.002), name


def test_more_patches_wanted_than_there_are(model):
    with pytest.raises(KitError, match="an image has 9 patches"):
        model(unit(1, 64), unit(1, 9, 64))


def test_more_deep_layers_than_the_tower_has(backbone):
    with pytest.raises(KitError, match="has room for 3"):
        FAPrompt(backbone.text_tower, ModelSettings(deep_layers=4), backbone.patch_width)
