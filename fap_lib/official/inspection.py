"""What a file of prompts is, said before anything is loaded; and the authors' files as the kit's own."""

from pathlib import Path

from fap_lib.checkpoints import read_header, save_prompts
from fap_lib.clip.backbone import load_backbone, widths
from fap_lib.clip.state_file import is_safetensors
from fap_lib.core.config import FeatureSettings, known_profiles, load_profile
from fap_lib.core.errors import KitError, plain
from fap_lib.core.files import sha256
from fap_lib.official.checkpoint import OFFICIAL_SHA256, TRAINED_ON, open_prompts, other_clip, read_official


def is_official(path: Path) -> bool:
    """Whether a file of prompts is of the authors' kind and not of the kit's.

    Raises:
        KitError: there is no such file.
    """
    if not path.is_file():
        raise KitError(
            f"there are no prompts at {path}; give a checkpoint of the kit, such as "
            "runs/demo/training/prompts.safetensors, or the authors' .pth."
        )
    return not is_safetensors(path)


def describe(path: Path) -> dict[str, str]:
    """A file of prompts in words: `kind`, `sha256`, `published`, `mode`, `sizes`, `backbone`, `learned on`.

    Raises:
        KitError: the file is missing, damaged, or no file of prompts.
    """
    digest = {"sha256": sha256(path)} if path.is_file() else {}
    if is_official(path):
        own = read_official(path)
        prompts, abnormal, width = own["prompts.abnormal"].shape
        layers, deep, _ = own["prompts.deep"].shape
        published = next((name for name, known in OFFICIAL_SHA256.items() if known == digest["sha256"]), None)
        return {
            "kind": "the authors' checkpoint (the state dict of their prompt learner)",
            **digest,
            "published": f"yes: {published}"
            if published
            else f"no: it is none of {', '.join(OFFICIAL_SHA256)}",
            "mode": "released, the one the authors' code trains",
            "sizes": f"{prompts} abnormality prompts of {len(own['prompts.normal'])} + {abnormal} tokens, "
            f"{width} wide; {layers} deep layers of {deep} tokens; a prior network that reads "
            f"{own['prior_network.linear1.weight'].shape[1]} numbers",
            "backbone": "not said in the file"
            + (f"; the published ones belong to {FeatureSettings().backbone}" if published else ""),
        }
    header = read_header(path)
    model, features, about = header["model"], header["features"], header["about"]
    return {
        "kind": f"a checkpoint of the kit (format {header['format']}, kit {plain(header['kit'])})",
        **digest,
        "mode": model["mode"],
        "sizes": f"{model['n_prompts']} abnormality prompts of {model['normal_tokens']} + "
        f"{model['abnormal_tokens']} tokens; {model['deep_layers']} deep layers of {model['deep_tokens']} "
        f"tokens; " + (f"a prior of {model['n_patches']} patches" if model["prior"] else "no prior"),
        "backbone": f"{plain(header['backbone']['name'])} at {features['image_size']} pixels, weights "
        f"{plain(header['backbone']['weights'][:12])}",
        "learned on": ", ".join(f"{plain(key)} {plain(value)}" for key, value in about.items())
        or "not said in the file",
    }


def learned_on(path: Path) -> str | None:
    """The dataset that prompts were learned on, if their file says it or is one of the published ones."""
    if is_official(path):
        digest = sha256(path)
        return next((TRAINED_ON[name] for name, known in OFFICIAL_SHA256.items() if known == digest), None)
    return read_header(path)["about"].get("dataset")


def line(path: Path) -> str:
    """What a run says about its prompts: what they are, and their hash against the known ones."""
    told = describe(path)
    known = f" Published: {told['published']}." if "published" in told else ""
    return f"{path.name}: {told['kind']}, mode {told['mode']}. SHA-256 {told['sha256']}.{known}"


def profile_of(path: Path) -> str:
    """The profile that a file of prompts belongs to: `paper` for the authors', else that of its backbone.

    Raises:
        KitError: see `describe`; or no profile has the backbone.
    """
    if is_official(path):
        return "paper"
    wanted = read_header(path)["backbone"]["name"]
    for name in known_profiles():
        if load_profile(name).features.backbone == wanted:
            return name
    raise KitError(f"no profile has the backbone {wanted} of {path}; name one with --profile.")


def check_fits(path: Path, features: FeatureSettings) -> None:
    """Refuse prompts of another CLIP by what their file says, before any weights are loaded.

    Raises:
        KitError: see `describe`; or the prompts were learned on another CLIP than `features` names.
    """
    if is_official(path):
        other_clip(read_official(path), features.backbone, *widths(features.backbone), path)
        return
    wanted = read_header(path)["backbone"]["name"]
    if wanted != features.backbone:
        raise KitError(
            f"the checkpoint {path} was trained on the backbone {wanted}, and the run's is "
            f"{features.backbone}; choose a profile with the backbone it was trained on."
        )


def convert(path: Path, target: Path, profile: str) -> None:
    """Write an authors' `.pth` as a checkpoint of the kit, which cannot hold code and knows its backbone.

    Args:
        profile: that of the CLIP the prompts belong to; its weights are loaded, because a checkpoint names
            them.

    Raises:
        KitError: it is a checkpoint of the kit already, or belongs to another CLIP.
    """
    if not is_official(path):
        raise KitError(f"{path} is a checkpoint of the kit already.")
    features = load_profile(profile).features
    check_fits(path, features)
    backbone = load_backbone(features.backbone, features.weights)
    found = open_prompts(path, backbone, features)
    save_prompts(target, found.model, backbone, features, found.about)
