"""Prompts on disk: round trips, official files, and every file that must be refused."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from toy import GOLDEN

from fap_lib import checkpoints
from fap_lib.cli import main
from fap_lib.clip.backbone import RANDOM, Backbone, load_backbone, save_weights
from fap_lib.clip.conventions import DEFAULT, Conventions
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.core.tensors import write_tensors
from fap_lib.data.images import rgb
from fap_lib.model import FAPrompt
from fap_lib.official import checkpoint, parity


@pytest.fixture(scope="module", autouse=True)
def _narrow_architectures() -> Iterator[None]:
    """open_clip's ViTs with two narrow blocks a tower: names and files matter here, not sizes."""
    original = open_clip.get_model_config

    def narrow(name: str) -> dict:
        config = original(name)
        if config and isinstance(config["vision_cfg"].get("layers"), int) and name.startswith("ViT-B"):
            config["embed_dim"] = 32
            config["vision_cfg"] |= {"layers": 2, "width": 64}
            config["text_cfg"] |= {"layers": 2, "width": 32, "heads": 2}
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_model_config", narrow)
        yield


@pytest.fixture
def model(backbone) -> FAPrompt:
    torch.manual_seed(3)
    return FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width)


@pytest.fixture
def saved(model, backbone, small, tmp_path) -> Path:
    path = tmp_path / "prompts.safetensors"
    checkpoints.save_prompts(path, model, backbone, small, {"dataset": "toy", "epoch": 2})
    return path


def rewrite_header(path: Path, **changes) -> None:
    header = checkpoints.read_header(path) | changes
    write_tensors(path, load_file(path), {"faprompt": json.dumps(header)})


def test_a_round_trip_gives_the_same_scores(model, saved, backbone, small):
    checkpoint = checkpoints.load_prompts(saved, backbone)
    assert checkpoint.features == small
    assert checkpoint.about == {"dataset": "toy", "epoch": 2}
    assert checkpoint.model.settings == model.settings
    image, patches = F.normalize(torch.randn(2, 64), dim=-1), F.normalize(torch.randn(2, 25, 64), dim=-1)
    with torch.no_grad():
        assert torch.equal(checkpoint.model(image, patches).score, model(image, patches).score)
        assert torch.equal(
            checkpoints.load_prompts(saved, backbone).model(image, patches).score, model(image, patches).score
        )


def test_another_backbone_is_refused(saved):
    other = load_backbone("ViT-B-32-quickgelu", RANDOM)
    with pytest.raises(KitError, match=r"was trained on the backbone tiny-random with weights"):
        checkpoints.load_prompts(saved, other)


def test_the_same_backbone_with_other_weights_is_refused(saved, backbone):
    other = load_backbone(backbone.name)
    other.clip.text_projection.data += 1e-3
    other = replace(other)  # its hash is of these weights
    with pytest.raises(KitError, match=r"was trained on the backbone tiny-random with weights .* but loaded"):
        checkpoints.load_prompts(saved, other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "there is no checkpoint at"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "not a checkpoint of the kit"),
        (lambda path: rewrite_header(path, format=3, kit="9.9"), r"has format 3 \(kit '9.9'\)"),
        (
            lambda path: rewrite_header(path, model=ModelSettings(deep_layers=2, n_prompts=3).model_dump()),
            r"prompts.abnormal has the shape \(10, 2, 64\), needed is \(3, 2, 64\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(saved, backbone, damage, message):
    damage(saved)
    with pytest.raises(KitError, match=message):
        checkpoints.load_prompts(saved, backbone)


def test_tensors_too_few_and_too_many_are_told_apart(backbone):
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width)
    state = dict(model.state_dict())
    with pytest.raises(KitError, match=r"x\.pth does not fit: extra is unknown"):
        checkpoints.fill(model, {**state, "extra": torch.zeros(1)}, Path("x.pth"))
    taken = state.pop("prompts.deep")
    assert taken.numel()
    with pytest.raises(KitError, match=r"x\.pth does not fit: prompts\.deep is missing"):
        checkpoints.fill(model, state, Path("x.pth"))


class Exploit:
    """Unpickling it would create a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.fixture(scope="module")
def golden(golden_backbone):
    """The golden model, as the authors would have saved it, unused tensors included."""
    with np.load(GOLDEN) as file:
        config = json.loads(str(file["config"]))
    model = parity.build_model(golden_backbone, config, "released")
    shapes = {"prompts.normal": (1, 1, 5, 768), "prompts.abnormal": (1, 10, 2, 768)}
    state = {}
    for name, value in model.state_dict().items():
        if name == "prompts.deep":
            for layer, part in enumerate(value):
                state[checkpoint.official_name(name, layer)] = part.clone()
        else:
            state[checkpoint.official_name(name)] = value.clone().reshape(shapes.get(name, value.shape))
    for layer in range(2):
        state[f"compound_prompt_projections.{layer}.weight"] = torch.zeros(896, 768)
        state[f"compound_prompt_projections.{layer}.bias"] = torch.zeros(896)
    state["token_prefix_pos"] = torch.zeros(1, 1, 1, 768)
    state["tokenized_prompts_neg"] = torch.zeros(1, 10, 77, dtype=torch.int32)
    return config, golden_backbone, model, state


def test_an_official_checkpoint_gives_the_official_scores(golden, tmp_path):
    config, backbone, model, state = golden
    path = tmp_path / "epoch_15.pth"
    torch.save({"prompt_learner": state}, path)
    loaded = checkpoint.load_official(path, backbone)
    assert loaded.settings.mode == "released"
    assert loaded.settings.patch_selection == "first"
    raw = backbone.image_tower(70, 3)(parity.build_inputs(config)[0])
    features = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
    with torch.no_grad():
        score = loaded(*features).score
        assert torch.equal(score, model(*features).score)
    with np.load(GOLDEN) as file:
        assert np.allclose(score.numpy(), file["official/image_score"], rtol=1e-5)


def test_the_sizes_of_an_official_file_are_read_from_its_tensors(golden, tmp_path):
    """M is nowhere in the file but in the width of the prior network's first layer."""
    _, backbone, _, state = golden
    width = backbone.patch_width * 3
    first = {
        "patch_meta_net.linear1.weight": torch.zeros(width // 16, width),
        "patch_meta_net.linear1.bias": torch.zeros(width // 16),
        "patch_meta_net.linear2.weight": torch.zeros(768, width // 16),
        "ctx_neg": state["ctx_neg"][:, :4],
    }
    torch.save({"prompt_learner": state | first}, tmp_path / "x.pth")
    settings = checkpoint.load_official(tmp_path / "x.pth", backbone).settings
    assert (settings.n_patches, settings.n_prompts) == (3, 4)
    assert (settings.normal_tokens, settings.abnormal_tokens) == (5, 2)
    assert (settings.deep_layers, settings.deep_tokens) == (2, 4)


def test_deep_tokens_are_rounded_as_the_official_tower_rounds_them(golden, tmp_path):
    _, backbone, _, state = golden
    changed = {**state, "compound_prompts_text.0": torch.full((4, 768), 0.1)}
    torch.save({"prompt_learner": changed}, tmp_path / "x.pth")
    loaded = checkpoint.load_official(tmp_path / "x.pth", backbone)
    assert float(loaded.prompts.deep.detach()[0, 0, 0]) == float(torch.tensor(0.1).half())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ctx_neg"), "must hold 'prompt_learner'"),
        (lambda s: s.pop("patch_meta_net.linear2.bias"), "patch_meta_net.linear2.bias is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("compound_prompts_text")], "no deep tokens"),
        (lambda s: s.update(ctx_pos=torch.zeros(1, 1, 5, 512)), r"prompts.normal has the shape \(5, 512\)"),
        (lambda s: s.update(ctx_pos=torch.zeros(5, 768)), "ctx_pos has another shape"),
        (lambda s: s.update(ctx_neg="no tensor"), "'ctx_neg' is no tensor"),
        (
            lambda s: s.update({"compound_prompts_text.1": torch.zeros(3, 768)}),
            r"compound_prompts_text.1 has another shape",
        ),
        (
            lambda s: s.update({"patch_meta_net.linear1.weight": torch.zeros(48, 7000)}),
            "its prior network reads 7000 numbers, which are no whole patches of 768",
        ),
    ],
)
def test_official_files_with_other_contents_are_refused(golden, tmp_path, change, message):
    _, backbone, _, state = golden
    state = dict(state)
    change(state)
    torch.save({"prompt_learner": state}, tmp_path / "x.pth")
    with pytest.raises(KitError, match=message):
        checkpoint.load_official(tmp_path / "x.pth", backbone)


def test_one_door_opens_both_kinds_of_files(golden, saved, backbone, small, tmp_path, monkeypatch):
    _, golden_backbone, _, state = golden
    path = tmp_path / "epoch_15.pth"
    torch.save({"prompt_learner": state}, path)
    theirs = checkpoint.open_prompts(path, golden_backbone, small)
    assert theirs.model.settings.mode == "released"
    assert theirs.features == small
    assert theirs.about == {
        "dataset": "unknown",
        "file": "epoch_15.pth",
        "sha256": sha256(path),
        "published": None,
    }
    assert checkpoint.open_prompts(path, golden_backbone).features.image_size == 518

    monkeypatch.setitem(checkpoint.OFFICIAL_SHA256, "train_on_visa.pth", sha256(path))
    known = checkpoint.open_prompts(path, golden_backbone).about
    assert (known["dataset"], known["published"]) == ("visa", "train_on_visa.pth")

    ours = checkpoint.open_prompts(saved, backbone, FeatureSettings())
    assert ours.features == small  # the file's own word
    saved.rename(tmp_path / "prompts.pth")  # the content decides, not the name
    assert checkpoint.open_prompts(tmp_path / "prompts.pth", backbone).about == ours.about
    with pytest.raises(KitError, match="there is no checkpoint at"):
        checkpoint.open_prompts(tmp_path / "no.pth", backbone)


def test_official_prompts_of_another_clip_are_refused(golden, backbone, tmp_path):
    torch.save({"prompt_learner": golden[3]}, tmp_path / "x.pth")
    with pytest.raises(KitError, match="its prompts are 768 wide, and this text tower 64"):
        checkpoint.open_prompts(tmp_path / "x.pth", backbone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"", "is empty, not a file of weights"),
        (b"Quota exceeded", "is not a file of weights"),
    ],
)
def test_what_a_download_left_in_place_of_weights_is_named(tmp_path, backbone, content, message):
    for name in ("w.pt", "w.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KitError, match=message):
            load_backbone("ViT-B-32-quickgelu", tmp_path / name)
        with pytest.raises(KitError, match=message):
            checkpoint.open_prompts(tmp_path / name, backbone)


def test_a_script_archive_is_not_called_damaged(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(KitError, match="is a TorchScript archive, which holds code"):
        load_backbone("ViT-B-32-quickgelu", tmp_path / "w.pt")


def test_a_pickle_that_wants_to_execute_code_is_not_opened(backbone, tmp_path):
    trace = tmp_path / "executed"
    for path in (tmp_path / "bad.pth", tmp_path / "plain.pkl"):
        if path.suffix == ".pth":
            torch.save({"prompt_learner": Exploit(trace)}, path)
        else:
            path.write_bytes(pickle.dumps(Exploit(trace)))
        with pytest.raises(KitError, match="wants to execute code"):
            checkpoint.load_official(path, backbone)
        with pytest.raises(KitError, match="wants to execute code"):
            load_backbone("ViT-B-32-quickgelu", path)
    assert not trace.exists()


def test_a_published_name_with_another_content_is_refused(golden, tmp_path):
    _, backbone, _, state = golden
    path = tmp_path / "train_on_visa.pth"
    torch.save({"prompt_learner": state}, path)
    with pytest.raises(KitError, match=f"SHA-256 {sha256(path)}, expected 82ce5d51"):
        checkpoint.load_official(path, backbone)


def test_weights_survive_the_conversion_to_safetensors(tmp_path):
    backbone = load_backbone("ViT-B-32-quickgelu", RANDOM)
    save_weights(backbone, tmp_path / "w.safetensors")
    torch.save(backbone.clip.state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        again = load_backbone("ViT-B-32-quickgelu", tmp_path / name)
        assert again.weights_sha256 == backbone.weights_sha256
        assert again.trained
        for tensors in ("parameters", "buffers"):  # a buffer may be in no file
            pairs = zip(getattr(backbone.clip, tensors)(), getattr(again.clip, tensors)(), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(KitError, match="do not fit ViT-B-16-quickgelu"):
        load_backbone("ViT-B-16-quickgelu", tmp_path / "w.safetensors")


def activation(backbone) -> str:
    return type(backbone.visual.transformer.resblocks[0].mlp.gelu).__name__


def test_weights_bring_what_their_state_dict_does_not_hold(home, tmp_path, capfd):
    quick = load_backbone("ViT-B-32-quickgelu", RANDOM)
    plain = load_backbone("ViT-B-32", RANDOM)
    assert (activation(quick), activation(plain)) == ("QuickGELU", "GELU")
    assert quick.weights_sha256 != plain.weights_sha256  # the same weights, another model

    # What stands in the place of OpenAI's weights is what OpenAI trained, by whichever name.
    (home / "models").mkdir(parents=True)
    save_file(quick.clip.state_dict(), home / "models" / "ViT-B-32.safetensors")
    assert activation(load_backbone("ViT-B-32")) == "QuickGELU"
    assert load_backbone("ViT-B-32").weights_sha256 == quick.weights_sha256
    # A file of one's own is what its architecture says, unless it says something itself.
    bare = home / "models" / "ViT-B-32.safetensors"
    assert activation(load_backbone("ViT-B-32", bare)) == "GELU"
    odd = replace(quick, conventions=Conventions(True, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    save_weights(odd, tmp_path / "odd.safetensors")
    again = load_backbone("ViT-B-32", tmp_path / "odd.safetensors")
    assert (activation(again), again.conventions) == ("QuickGELU", odd.conventions)
    pixels = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    assert torch.equal(again.normalise(pixels), torch.full((1, 3, 2, 2), 2.0))
    assert again.weights_sha256 not in (quick.weights_sha256, plain.weights_sha256)
    assert "initialized randomly" not in capfd.readouterr().err


def test_published_weights_are_taken_as_open_clip_notes_them(monkeypatch):
    assert Conventions.of_published("ViT-L-14-336", "openai").quick_gelu
    assert Conventions.of_published("ViT-L-14", "laion2b_s32b_b82k").mean == (0.5, 0.5, 0.5)
    assert Conventions.of_published("ViT-B-32", "laion2b_s34b_b79k") == DEFAULT
    noted = {"interpolation": "bilinear"}
    monkeypatch.setattr("fap_lib.clip.published.get_pretrained_cfg", lambda *_: noted)
    with pytest.raises(KitError, match="resized by bilinear interpolation, and the kit resizes by bicubic"):
        Conventions.of_published("ViT-B-32", "openai")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-L-14-336-quickgel", None, "the nearest known one is 'ViT-L-14-336-quickgelu'"),
        ("RN50", RANDOM, "two plain transformers: its image tower is convolutional. Use a ViT of CLIP"),
        ("ViT-H-14-worldwide", RANDOM, "its tokenizer is facebook/xlm-v-base and not CLIP's"),
        (
            "ViT-B-16-SigLIP2",
            None,
            "timm's vit_base_patch16_siglip_224, .* attention .* no causal mask, .*SigLIP2 and",
        ),
        ("PE-Core-L-14-336:meta", None, "timm's vit_pe_core_large_patch14_336, .* pooled by attention"),
        ("MobileCLIP2-S0", None, "timm's fastvit_mci0, .* no causal mask"),
        (
            "coca_ViT-B-32",
            None,
            "read at a class token and not at the end token; it has a decoder for captions",
        ),
        ("ViT-L-14:laion2b", None, "no weights 'laion2b' of ViT-L-14; known are .*laion2b_s32b_b82k"),
        ("ViT-H-14", None, "no weights for ViT-H-14; give .* or one of ViT-H-14:laion2b_s32b_b79k"),
        ("ViT-e-14:any", None, "no weights 'any' of ViT-e-14; known are none at all"),
        ("ViT-B-32-quickgelu", "absent.pt", "there are no weights at .*absent.pt"),
    ],
)
def test_a_backbone_that_cannot_be_had(name, weights, message):
    with pytest.raises(KitError, match=message):
        load_backbone(name, weights)


def test_weights_of_others_by_name_and_tag(home, tmp_path):
    """Random weights under the tag of LAION's ViT-L-14, whose mean is one half: features are open_clip's."""
    name, narrow = "ViT-L-14:laion2b_s32b_b82k", open_clip.get_model_config("ViT-L-14")
    narrow["vision_cfg"] |= {"layers": 2, "width": 64, "image_size": 28}
    narrow["text_cfg"] |= {"layers": 2, "width": 64, "heads": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_model_config", lambda _: narrow)
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-L-14", narrow)
        torch.manual_seed(8)
        file = tmp_path / "open_clip_model.safetensors"
        theirs = open_clip.create_model("ViT-L-14").eval()
        save_file(theirs.state_dict(), file)
        tag = open_clip.pretrained.get_pretrained_cfg("ViT-L-14", "laion2b_s32b_b82k")
        preprocess = open_clip.image_transform(28, False, mean=tag["mean"], std=tag["std"])
        backbone = load_backbone(name, file)
        assert backbone.conventions.mean == (0.5, 0.5, 0.5)
        assert load_backbone("ViT-L-14", file).conventions == DEFAULT
        assert load_backbone("ViT-L-14", file).weights_sha256 != backbone.weights_sha256

        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
        expected = theirs.encode_image(preprocess(image)[None])
        found = backbone.image_tower(28, 0, class_norm=True)(backbone.normalise(rgb(image, 28)[None]))
        assert torch.allclose(found.image, expected, atol=1e-5)
        tokens = open_clip.get_tokenizer("ViT-L-14")(["a scratched cap."])
        own = backbone.text_tower.prompts(*_whole(backbone, "a scratched cap."))[1]
        assert torch.allclose(own, theirs.encode_text(tokens), atol=1e-5)

        # `fap weights` writes it where the bare tag finds it again, conventions and all.
        assert main(["weights", name, "--from", str(file)]) == 0
        kept = home / "models" / "ViT-L-14--laion2b_s32b_b82k.safetensors"
        assert kept.is_file()
        assert load_backbone(name).weights_sha256 == backbone.weights_sha256


def _whole(backbone: Backbone, text: str) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """A text as the tower takes prompts: its start token, no deep tokens, and the rest."""
    tokens = backbone.text_tower.embed(text)
    return tokens[:1], tokens.new_zeros(0, 1, tokens.shape[1]), [tokens[1:]]


def test_damaged_weights_are_named(tmp_path):
    for name in ("w.safetensors", "w.pt"):
        (tmp_path / name).write_bytes(b"\x00" * 64)
        with pytest.raises(KitError, match=name):
            load_backbone("ViT-B-32-quickgelu", tmp_path / name)


def test_without_network_the_message_names_file_hash_and_place(monkeypatch, home):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(KitError) as caught:
        load_backbone("ViT-L-14-336-quickgelu")
    message = str(caught.value)
    assert "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02" in message
    assert str(home / "models" / "ViT-L-14-336px.pt") in message
    # Of others' weights: their page, or their address, whose folder need not be a hash.
    with pytest.raises(
        KitError, match=r"huggingface\.co/laion/CLIP-ViT-L-14-laion2B-s32B-b82K on another"
    ) as hub:
        load_backbone("ViT-L-14:laion2b_s32b_b82k")
    assert str(home / "models" / "ViT-L-14--laion2b_s32b_b82k.safetensors") in str(hub.value)
    with pytest.raises(KitError, match=r"fetch l14_fullcc2\.5b\.pt from https"):
        load_backbone("ViT-L-14:metaclip_fullcc")
