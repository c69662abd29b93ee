"""The parameters of each notebook: what its `parameters` cell may say, checked before anything runs."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from fap_lib.core.config import Settings


class Parameters(Settings):
    """Base of all notebooks' parameters."""

    title: ClassVar[str] = "notebook"

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


class DatasetRun(Parameters):
    """Parameters of the notebooks that work on one dataset: its features, a training."""

    data: str
    split: Literal["train", "test"] = "test"
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    run: str
    device: str = "auto"


class ShardRun(DatasetRun):
    """Parameters of a job that extracts a part of a dataset's features, or joins the parts."""

    count: int = Field(gt=0)
    """How many shards."""
    number: int | None = Field(ge=0)
    """Which one, from 0; None joins them."""


class EvaluateRun(DatasetRun):
    """Parameters of the notebook that evaluates a dataset."""

    prompts: str
    """A checkpoint: the kit's, or the authors' `.pth`."""
    wording: str | None = None
    """Hand-written prompts (`fap_lib.evaluation.baselines.PUBLISHED`) instead of learned ones."""


class LessonRun(Parameters):
    """Parameters of the notebooks that look at learned prompts (`fap_lib.lessons.lesson`)."""

    data: str
    split: Literal["train", "test"] = "test"
    prompts: str
    """`paper` or `released` for those that ship with the mini profile, else the path of a checkpoint: the
    kit's, or the authors' `.pth`."""
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"


class PriorRun(LessonRun):
    """Parameters of the notebook about the prior, which compares prompts of both modes."""

    released: str
    """Prompts that were learned in the mode `released`, named as `prompts` are."""


class BuildRun(LessonRun):
    """Parameters of the notebook in which FAPrompt is built."""

    auxiliary: str
    """The dataset that prompts are learned on; `data` is what they are measured on."""


class DependenceRun(LessonRun):
    """Parameters of the notebook about what a figure depends on besides the method."""

    auxiliary: str
    """The dataset of its short trainings."""
    images: int = Field(gt=0)
    """How many of its images they see."""
    epochs: int = Field(gt=1)
    seeds: int = Field(gt=1)


class OwnRun(Parameters):
    """Parameters of the notebook that scores a folder of one's own images."""

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


class AblationRun(Parameters):
    """Parameters of the notebook about ablations; the study it reads is committed."""

    data: str
    """The auxiliary dataset of its own short trainings."""
    images: int = Field(gt=0)
    """How many of its images they see."""
    profile: str = "mini"
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"


class CompareRun(Parameters):
    """Parameters of the notebook that gathers a grid and compares it with reported values."""

    run: str
