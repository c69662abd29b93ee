"""Settings: strict, named, and the same for notebooks, command line and library.

An unknown name, a wrong type, a string where true or false is meant: each is an error that says so.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fap_lib.core.documents import load_yaml
from fap_lib.core.errors import SHOWN, KitError, nearest, shown
from fap_lib.core.numbers import SEED

PROFILES = Path(__file__).parent / "profiles"

Mode = Literal["paper", "released"]
Precision = Literal["float32", "bfloat16", "float16"]

PatchSelection = Literal["most_abnormal", "first", "random"]
"""Which M patches the prior sees: those with the highest abnormal probability, in descending order
(the paper); the first in raster order, that is the left of the top row (the released code, ledger:
patch-selection); or M pseudo-random ones (an ablation)."""

Selection = PatchSelection | Literal["global"]
"""What the prior sees: patches, or the image's global feature (the meta-net of CoCoOp, a baseline)."""


class Settings(BaseModel):
    """Base of all settings; `parse` turns pydantic's report into one sentence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    title: ClassVar[str]

    @classmethod
    def parse(cls, values: dict[str, Any], **extra: Any) -> Self:
        """Settings from plain values.

        Raises:
            KitError: a name is unknown, or a value has the wrong type or range.
        """
        try:
            return cls(**values, **extra)
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                near = nearest(name, cls.model_fields)
                raise KitError(
                    f"unknown {cls.title} setting {shown(name)}; known settings: {known}; the nearest is "
                    f"{near!r}."
                ) from error
            message = problem["msg"].removeprefix("Value error, ")
            found = f"{name[:SHOWN]} = {shown(problem['input'])}: " if name else ""
            raise KitError(f"wrong {cls.title} setting, {found}{message[0].lower()}{message[1:]}.") from error


class FeatureSettings(Settings):
    """How images become CLIP features; everything that changes a cached feature is here."""

    title: ClassVar[str] = "feature"
    backbone: str = "ViT-L-14-336-quickgelu"
    weights: str | None = None
    """A file with the backbone's weights; without one, open_clip's OpenAI weights."""
    image_size: int = Field(518, gt=0, le=4096)
    vv_blocks: int = Field(19, ge=0)
    class_norm: bool = False
    stored_resize: bool = False
    """Resize an image in the pixel mode of its file and make it RGB afterwards (ledger: resize-order)."""
    precision: Precision = "float32"


class ModelSettings(Settings):
    """FAPrompt itself. Official values: `FAPrompt.py:65-68`, `train.py:139,192`."""

    title: ClassVar[str] = "model"
    mode: Mode = "paper"
    n_prompts: int = Field(10, gt=0)
    n_patches: int = Field(10, gt=0)
    normal_tokens: int = Field(5, gt=0)
    abnormal_tokens: int = Field(2, ge=0)
    """Without any, normal and abnormal prompts differ in their words alone (CoOp with one context)."""
    deep_layers: int = Field(8, ge=0)
    deep_tokens: int = Field(4, gt=0)
    temperature: float = Field(0.07, gt=0)
    object_word: str = Field("object", min_length=1)
    abnormal_word: str = "damaged"
    normal_word: str = ""
    """FAPrompt's normal prompt has no state word; CoOp's has."""
    prior: bool = True
    """Without the prior (DAP) the adapted prompts are the static ones."""
    selection: Selection | None = None
    """Which patches the prior sees; None takes the mode's."""
    logit_bias: bool = False
    """A learnable bias on the abnormal logit; no part of FAPrompt, an ablation."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.deep_layers and self.deep_tokens > self.normal_tokens:
            raise ValueError(
                f"deep_tokens = {self.deep_tokens} must be at most normal_tokens = {self.normal_tokens}, "
                "because the deep tokens take the places of normal tokens"
            )
        if self.abnormal_tokens == 0 and (self.prior or self.n_prompts > 1):
            raise ValueError(
                "abnormal_tokens = 0 leaves nothing to tell prompts apart or to add a prior to; "
                "set n_prompts: 1 and prior: false with it"
            )
        if self.prior and self.patch_selection == "global" and self.n_patches != 1:
            raise ValueError("selection = global reads one feature, the image's; set n_patches: 1 with it")
        return self

    @property
    def patch_selection(self) -> Selection:
        """The selection in force; the one setting in which the modes differ (ledger: patch-selection)."""
        by_mode: dict[Mode, Selection] = {"paper": "most_abnormal", "released": "first"}
        return self.selection or by_mode[self.mode]


class TrainSettings(Settings):
    """The training run. Official values: `train.py:147-195`."""

    title: ClassVar[str] = "training"
    epochs: int = Field(15, gt=0)
    batch_size: int = Field(8, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    seed: int = Field(111, ge=0, le=SEED)
    pixel_static_weight: float = Field(1.0, ge=0)
    pixel_adapted_weight: float = Field(0.5, ge=0)
    image_ce_weight: float = Field(1.0, ge=0)
    image_focal_weight: float = Field(1.0, ge=0)
    orthogonal_weight: float = Field(0.1, ge=0)
    prior_weight: float = Field(1.0, ge=0)
    keep_epochs: list[int] = Field(default_factory=list)
    """Epochs whose prompts are kept beside the last one's (the paper's code tests epoch 7)."""
    save_every: int = Field(50, gt=0)
    """Steps between two states to resume from."""


class ScoreSettings(Settings):
    """Scoring. Official values: `test.py`."""

    title: ClassVar[str] = "scoring"
    sigma: float = Field(10.0, ge=0)
    """Standard deviation of the map's Gaussian smoothing, in pixels of the scored image."""
    batch_size: int = Field(16, gt=0)


class Profile(Settings):
    """One complete set of settings; notebooks and commands start from a named one."""

    title: ClassVar[str] = "profile"
    label: str
    """What results made with it mean; printed beside them."""
    features: FeatureSettings
    model: ModelSettings
    training: TrainSettings
    scoring: ScoreSettings


def known_profiles() -> list[str]:
    """Names of all profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """A named profile (`fap_lib/core/profiles/NAME.yaml`) with changes, such as {"training": {"epochs": 2}}.

    Raises:
        KitError: unknown profile, section or setting, or a wrong type.
    """
    known = known_profiles()
    if name not in known:
        near = nearest(name, known)
        raise KitError(
            f"unknown profile {shown(name)}; known profiles: {', '.join(known)}; the nearest is {near!r}."
        )
    values = load_yaml(PROFILES / f"{name}.yaml", "profile")
    sections: dict[str, type[Settings]] = {
        "features": FeatureSettings,
        "model": ModelSettings,
        "training": TrainSettings,
        "scoring": ScoreSettings,
    }
    for section, change in (changes or {}).items():
        if section not in sections:
            raise KitError(
                f"unknown settings section {shown(section)}; known sections: {', '.join(sections)}; "
                f"the nearest is {nearest(section, sections)!r}."
            )
        if not isinstance(change, dict):
            raise KitError(
                f"the settings section {section!r} must map names to values, found {shown(change)}."
            )
        values[section] = values.get(section, {}) | change
    parsed = {section: kind.parse(values.get(section, {})) for section, kind in sections.items()}
    return Profile.parse({"label": values["label"], **parsed})


def profile_of(backbone: str) -> str:
    """The name of the profile that a CLIP belongs to; `paper` for those that none names."""
    for path in sorted(PROFILES.glob("*.yaml")):
        if load_yaml(path, "profile").get("features", {}).get("backbone") == backbone:
            return path.stem
    return "paper"
