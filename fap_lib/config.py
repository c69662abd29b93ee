"""Settings: strict, named, and the same for notebooks, command line and library.

An unknown name, a wrong type, a string where true or false is meant: each is an error that says so.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fap_lib.dap import Selection
from fap_lib.errors import KitError, nearest

PROFILES = Path(__file__).parent / "profiles"

Mode = Literal["paper", "released"]
Precision = Literal["float32", "bfloat16", "float16"]


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
                    f"unknown {cls.title} setting {name!r}; known settings: {known}; the nearest is {near!r}."
                ) from error
            message = problem["msg"].removeprefix("Value error, ")
            found = f"{name} = {problem['input']!r}: " if name else ""
            raise KitError(f"wrong {cls.title} setting, {found}{message[0].lower()}{message[1:]}.") from error

    @classmethod
    def from_notebook(cls, names: dict[str, Any]) -> Self:
        """Settings from a notebook's `parameters` cell: pass `globals()` in the cell that follows it.

        Every plain value defined so far counts, so that a parameter papermill injected under a
        mistyped name is an error and not a silent nothing.
        """
        plain = (str, int, float, bool, list, dict, type(None))
        hidden = {"In", "Out"}  # IPython's own
        return cls.parse(
            {
                name: value
                for name, value in names.items()
                if isinstance(value, plain) and not name.startswith("_") and name not in hidden
            }
        )


class FeatureSettings(Settings):
    """How images become CLIP features; everything that changes a cached feature is here."""

    title: ClassVar[str] = "feature"
    backbone: str = "ViT-L-14-336-quickgelu"
    weights: str | None = None
    """A file with the backbone's weights; without one, open_clip's OpenAI weights."""
    image_size: int = Field(518, gt=0)
    vv_blocks: int = Field(19, ge=0)
    class_norm: bool = False
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
    seed: int = Field(111, ge=0)
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


class FeatureRun(Settings):
    """Parameters of the notebook that extracts features."""

    title: ClassVar[str] = "notebook"
    data: str
    split: Literal["train", "test"] = "test"
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    run: str
    device: str = "auto"


class ShardRun(FeatureRun):
    """Parameters of a job that extracts a part of a dataset's features, or joins the parts."""

    count: int = Field(gt=0)
    """How many shards."""
    number: int | None = Field(ge=0)
    """Which one, from 0; None joins them."""


class TrainRun(FeatureRun):
    """Parameters of the notebook that trains prompts."""


class EvaluateRun(FeatureRun):
    """Parameters of the notebook that evaluates a dataset."""

    prompts: str
    wording: str | None = None
    """Hand-written prompts (`fap_lib.baselines.PUBLISHED`) instead of learned ones."""


class LessonRun(Settings):
    """Parameters of the notebooks that look at learned prompts (`fap_lib.lesson`)."""

    title: ClassVar[str] = "notebook"
    data: str
    split: Literal["train", "test"] = "test"
    prompts: str
    """`paper` or `released` for those that ship with the mini profile, else a checkpoint's path."""
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"


class PriorRun(LessonRun):
    """Parameters of the notebook about the prior, which compares prompts of both modes."""

    released: str
    """Prompts that were learned in the mode `released`, named as `prompts` are."""


class OwnRun(Settings):
    """Parameters of the notebook that scores a folder of one's own images."""

    title: ClassVar[str] = "notebook"
    images: str
    """The folder of images; a relative path starts at `paths.home()`."""
    normal: str | None = None
    """A folder of normal images for the threshold; None means scores without one."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """Share of normal images that may be flagged."""
    prompts: str
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    run: str
    study: str = "mini-test"
    """A prepared dataset, for the notebook's lessons."""
    device: str = "auto"


class AblationRun(Settings):
    """Parameters of the notebook about ablations; the study it reads is committed."""

    title: ClassVar[str] = "notebook"
    data: str
    """The auxiliary dataset of its own short trainings."""
    images: int = Field(gt=0)
    """How many of its images they see."""
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"


class CompareRun(Settings):
    """Parameters of the notebook that gathers a grid and compares it with reported values."""

    title: ClassVar[str] = "notebook"
    run: str


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """A named profile (`fap_lib/profiles/NAME.yaml`) with changes, such as {"training": {"epochs": 2}}.

    Raises:
        KitError: unknown profile, section or setting, or a wrong type.
    """
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if name not in known:
        near = nearest(name, known)
        raise KitError(
            f"unknown profile {name!r}; known profiles: {', '.join(known)}; the nearest is {near!r}."
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
                f"unknown settings section {section!r}; known sections: {', '.join(sections)}; "
                f"the nearest is {nearest(section, sections)!r}."
            )
        if not isinstance(change, dict):
            raise KitError(f"the settings section {section!r} must map names to values, found {change!r}.")
        values[section] = values.get(section, {}) | change
    parsed = {section: kind.parse(values.get(section, {})) for section, kind in sections.items()}
    return Profile.parse({"label": values["label"], **parsed})


def load_yaml(path: Any, what: str) -> dict[str, Any]:
    """A YAML file as a dictionary.

    Raises:
        KitError: the file is missing or is not a mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError as error:
        raise KitError(f"there is no {what} at {path}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KitError(f"the {what} {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise KitError(f"the {what} {path} must map names to values.")
    return content
