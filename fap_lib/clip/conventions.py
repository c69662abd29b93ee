"""What weights take for granted and their state dict does not hold: the activation, the scale of pixels.

Loaded without them, weights fit, run, and give features that mean little: nothing else would say so.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open

from fap_lib.core.errors import KitError

INTERPOLATION = "bicubic"
"""How the kit resizes images (`fap_lib.data.images.rgb`): as all plain ViTs of open_clip were trained."""

_KEY = "conventions"

Triple = tuple[float, float, float]

OPENAI_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
"""Of the channels of the images that OpenAI trained on."""


@dataclass(frozen=True)
class Conventions:
    """What a CLIP was trained with.

    quick_gelu: x * sigmoid(1.702 x) as the activation, and not the exact GELU. mean, std: of the scaled RGB
    channels. The defaults are those of most CLIPs in open_clip.
    """

    quick_gelu: bool = False
    mean: Triple = OPENAI_MEAN
    std: Triple = OPENAI_STD

    @classmethod
    def of_architecture(cls, name: str) -> Self:
        """Those of open_clip's architecture `name`, for weights that say nothing of themselves."""
        from open_clip import get_model_config  # slow to import

        return cls(get_model_config(name).get("quick_gelu", False))

    @classmethod
    def of_published(cls, name: str, tag: str) -> Self:
        """Those that open_clip notes for published weights, such as `openai`.

        Raises:
            KitError: there are none, or they want a way of resizing that the kit does not have.
        """
        from fap_lib.clip import published  # open_clip, which is slow to import

        noted = published.noted(f"{name}:{tag}")
        if (wanted := noted.get("interpolation", INTERPOLATION)) != INTERPOLATION:
            raise KitError(
                f"the weights {tag} of {name} were trained on images resized by {wanted} interpolation, "
                f"and the kit resizes by {INTERPOLATION} alone; use other weights."
            )
        plain = cls.of_architecture(name)
        return cls(
            noted.get("quick_gelu", False) or plain.quick_gelu,
            tuple(noted.get("mean", plain.mean)),
            tuple(noted.get("std", plain.std)),
        )

    @classmethod
    def of_file(cls, path: Path) -> Self | None:
        """Those that `save_weights` wrote into a safetensors file; None of any other file."""
        if path.suffix != ".safetensors":
            return None
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
        if text is None:
            return None
        noted: dict[str, Any] = json.loads(text)
        return cls(noted["quick_gelu"], tuple(noted["mean"]), tuple(noted["std"]))

    def metadata(self) -> dict[str, str]:
        """The header entry that `of_file` reads."""
        return {_KEY: json.dumps(asdict(self))}

    def deviations(self) -> str:
        """What is unlike the defaults, as a text to tell weights apart by; empty where nothing is."""
        default = asdict(DEFAULT)
        unlike = {name: value for name, value in asdict(self).items() if value != default[name]}
        return json.dumps(unlike) if unlike else ""


DEFAULT = Conventions()
