"""The towers compute what open_clip computes, only once and without touching the model."""

import hashlib
import string
import subprocess
import sys

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fap_lib.clip import mini, plain
from fap_lib.clip.backbone import _TINY_CONFIG, RANDOM, TINY, Backbone, load_backbone
from fap_lib.clip.image_tower import resize_positions
from fap_lib.clip.tokenizer import Tokenizer
from fap_lib.core.errors import KitError


def theirs(backbone: Backbone) -> open_clip.CLIP:
    """open_clip's model with the tiny CLIP's weights."""
    clip = open_clip.CLIP(**_TINY_CONFIG)
    clip.load_state_dict(backbone.clip.state_dict())
    return clip.eval()


def fingerprint(backbone: Backbone) -> str:
    values = b"".join(value.numpy().tobytes() for value in backbone.clip.state_dict().values())
    return hashlib.sha256(values).hexdigest()


def test_plain_tokens_and_class_token_are_open_clips(backbone):
    pixels = torch.randn(2, 3, 42, 42, generator=torch.manual_seed(0))
    features = backbone.image_tower(42, vv_blocks=0, class_norm=True)(pixels)
    expected = theirs(backbone).visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    assert torch.allclose(features.image, expected["image_features"], atol=1e-5)
    patches = expected["image_intermediates"][0] @ backbone.visual.proj
    assert torch.allclose(features.tokens[:, 1:], patches, atol=1e-5)


@pytest.mark.parametrize("vv_blocks", [1, 2, 4])
def test_value_value_path_against_its_definition(backbone, vv_blocks):
    """Written out with explicit softmax attention, token by token of the definition."""
    visual = backbone.visual
    pixels = torch.randn(2, 3, 70, 70, generator=torch.manual_seed(1))
    features = backbone.image_tower(70, vv_blocks)(pixels)

    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), x], dim=1)
    x = visual.ln_pre(x + resize_positions(visual.positional_embedding, 5))
    blocks = list(visual.transformer.resblocks)
    for index, block in enumerate(blocks):
        if index == len(blocks) - vv_blocks:
            dense = x
        if index >= len(blocks) - vv_blocks:
            width, heads = x.shape[-1], block.attn.num_heads
            normed = block.ln_1(x)
            weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
            v = F.linear(normed, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            attention = (v @ v.transpose(-1, -2) * v.shape[-1] ** -0.5).softmax(-1)
            dense = dense + block.attn.out_proj((attention @ v).transpose(1, 2).flatten(2))
        x = block(x)
    assert torch.allclose(features.tokens, visual.ln_post(dense) @ visual.proj, atol=1e-5)
    assert torch.allclose(features.image, x[:, 0] @ visual.proj, atol=1e-5)


def test_running_at_another_size_leaves_the_model_alone(backbone):
    before = fingerprint(backbone)
    for size in (28, 70, 98):
        tokens = backbone.image_tower(size, 2)(torch.zeros(1, 3, size, size)).tokens
        assert tokens.shape == (1, 1 + (size // 14) ** 2, 64)
    assert fingerprint(backbone) == before
    assert backbone.visual.positional_embedding.shape[0] == 1 + 9


def test_positions_resize_as_interpolate_does():
    positions = torch.randn(1 + 16, 8, generator=torch.manual_seed(2))
    resized = resize_positions(positions, 7)
    plane = positions[1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    expected = F.interpolate(plane, (7, 7), mode="bilinear").permute(0, 2, 3, 1).reshape(-1, 8)
    assert torch.equal(resized[0], positions[0])
    assert torch.allclose(resized[1:], expected)
    assert resize_positions(positions, 4) is positions


@pytest.mark.parametrize("size", [0, -14, 71])
def test_a_size_that_does_not_fit_the_patch_is_refused(backbone, size):
    with pytest.raises(KitError, match="patch of 14 pixels; use"):
        backbone.image_tower(size, 1)


def test_too_many_value_value_blocks_are_refused(backbone):
    with pytest.raises(KitError, match="has 4 blocks"):
        backbone.image_tower(70, 5)


@pytest.mark.parametrize(("precision", "limit"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_lower_precisions_stay_near(precision, limit):

    pixels = torch.randn(2, 3, 70, 70, generator=torch.manual_seed(3))
    exact = load_backbone(TINY).image_tower(70, 2)(pixels)
    low = load_backbone(TINY).to("cpu", precision)
    found = low.image_tower(70, 2)(pixels.to(getattr(torch, precision)))
    assert found.tokens.dtype == getattr(torch, precision)
    error = (found.tokens.float() - exact.tokens).norm() / exact.tokens.norm()
    assert 0 < float(error) < limit


def test_prefix_and_suffix_equal_the_whole_sequence_of_77_tokens(backbone):
    tower, text = backbone.text_tower, "a photo of a damaged metal nut."
    expected = theirs(backbone).encode_text(backbone.tokenizer([text]))
    tokens = tower.embed(text)
    for cut in (1, 4, len(tokens) - 1):
        prefix = tower.prompts(tokens[:cut], torch.zeros(0, 4, tower.width), [])[0]
        found = tower.suffix(prefix, tokens[None, cut:])
        assert torch.allclose(found, expected, atol=1e-5), cut


def test_suffixes_of_a_batch_do_not_see_each_other(backbone):
    tower = backbone.text_tower
    tokens = torch.randn(3, 4, tower.width, generator=torch.manual_seed(4)) * 0.1
    shared, deep = torch.randn(6, tower.width) * 0.1, torch.randn(2, 4, tower.width) * 0.1
    prefix = tower.prompts(shared, deep, [])[0]
    together = tower.suffix(prefix, tokens)
    for index in range(3):
        assert torch.allclose(tower.suffix(prefix, tokens[index : index + 1])[0], together[index], atol=1e-6)


def test_deep_tokens_replace_positions_one_to_t(backbone):
    tower = backbone.text_tower
    generator = torch.manual_seed(5)
    tokens, other_tokens = torch.randn(2, 6, tower.width, generator=generator)
    other_tokens[0], other_tokens[5] = tokens[0], tokens[5]  # V1..V4 differ
    deep = torch.randn(1, 4, tower.width, generator=generator)
    one, other = (tower.prompts(each, deep, [])[0] for each in (tokens, other_tokens))
    assert not torch.allclose(one.keys[0][:, :, 1:5], other.keys[0][:, :, 1:5])
    assert torch.allclose(one.keys[1][:, :, 1:5], other.keys[1][:, :, 1:5])  # replaced before block 1
    assert not torch.allclose(one.keys[1][:, :, 5], other.keys[1][:, :, 5])  # V5 keeps its own stream


def test_random_names_weights_from_a_seed_for_every_backbone():
    one, other = load_backbone("mini", RANDOM), load_backbone("mini", RANDOM)
    assert one.weights_sha256 == other.weights_sha256 != load_backbone("mini").weights_sha256
    assert not one.trained
    assert load_backbone(TINY, RANDOM).weights_sha256 == load_backbone(TINY).weights_sha256
    with pytest.raises(KitError, match="draws its weights from a seed and reads none from here"):
        load_backbone(TINY, "here.safetensors")


SCALED = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 64,
        "patch_size": 16,
        "ls_init_value": 1e-4,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {"context_length": 20, "vocab_size": 300, "layers": 2, "width": 32, "heads": 2},
}


@pytest.mark.parametrize("config", [_TINY_CONFIG, mini.CONFIG, SCALED])
def test_a_seed_draws_what_open_clip_draws_and_it_computes_the_same(config):
    made = []
    for build in (open_clip.CLIP, plain.CLIP):
        torch.manual_seed(4)
        made.append(build(**config).eval())
    one, other = (clip.state_dict() for clip in made)
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [name for name, _ in made[0].named_parameters()] == [n for n, _ in made[1].named_parameters()]
    assert torch.equal(made[0].attn_mask, made[1].attn_mask)
    ids = torch.randint(0, 300, (3, config["text_cfg"]["context_length"]), generator=torch.manual_seed(5))
    with torch.no_grad():
        assert torch.allclose(made[1].encode_text(ids), made[0].encode_text(ids, normalize=True), atol=1e-6)


PLAIN = ["A photo of a damaged object.", " don't ", "", "two  spaces", "one two " * 60, "a" * 100]
ODD = [
    *("na\u00efve caf\u00e9 & \ufb01ne \u201cquotes\u201d", "&lt;b&gt;", "a\x0bb\tc\n"),
    *("<start_of_text> hi <end_of_text>", "\u65e5\u672c \U0001f600 12\u00bd"),
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=40) | st.text(string.printable, max_size=80), max_size=5))
@example(
    [
        "A photo of a damaged object.",
        " don't ",
        "",
        "na\u00efve caf\u00e9 & \ufb01ne \u201cquotes\u201d",
        "&lt;b&gt;",
    ]
)
@example(
    [
        "a" * 100,
        "one two " * 60,
        "<start_of_text> hi <end_of_text>",
        "\u65e5\u672c \U0001f600 12\u00bd",
        "a\x0bb\tc",
    ]
)
def test_the_tokenizer_is_open_clips(texts):
    for text in texts:
        ids = THEIRS.encode(text)
        assert OWN.encode(text) == ids
        assert OWN.decode(ids) == THEIRS.decode(ids)
    if texts:
        assert torch.equal(OWN(texts), THEIRS(texts))


THEIRS, OWN = open_clip.SimpleTokenizer(), Tokenizer()


def test_the_tokenizers_tables_are_open_clips():
    assert OWN.encoder == THEIRS.encoder
    assert OWN.decoder == THEIRS.decoder
    assert (OWN.sot_token_id, OWN.eot_token_id) == (THEIRS.sot_token_id, THEIRS.eot_token_id)


def test_the_mini_clip_starts_without_open_clip():
    """It brings torchvision and timm along, which take longer than all the rest."""
    code = (
        "import sys; from fap_lib import Detector; Detector.load('paper', device='cpu'); "
        "print([name for name in ('open_clip', 'torchvision', 'timm', 'sklearn', 'pandas', 'matplotlib')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
