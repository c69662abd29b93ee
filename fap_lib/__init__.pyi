from .checkpoints import Checkpoint, load_prompts, save_prompts
from .clip.backbone import Backbone, device_name, load_backbone
from .core.config import Profile, load_profile
from .core.errors import KitError
from .data.features import FeatureCache, features
from .data.manifest import Manifest, read_manifest
from .evaluation.scoring import Scores, evaluate, score
from .inference.detector import Detector
from .inference.result import Result
from .model import FAPrompt, Prediction
from .training import train

__version__: str
__all__ = [
    "Backbone",
    "Checkpoint",
    "Detector",
    "FAPrompt",
    "FeatureCache",
    "KitError",
    "Manifest",
    "Prediction",
    "Profile",
    "Result",
    "Scores",
    "device_name",
    "evaluate",
    "features",
    "load_backbone",
    "load_profile",
    "load_prompts",
    "read_manifest",
    "save_prompts",
    "score",
    "train",
]
