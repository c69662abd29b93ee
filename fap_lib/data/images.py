"""Images and masks from disk to arrays, resized as the official code resizes them."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fap_lib.core.errors import KitError
from fap_lib.data.manifest import MaskRule

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""Decoders that may run on a user's file; the content decides, not the suffix."""

# What Pillow's decoders raise on damaged files.
_DECODING = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error)

# Pillow only warns of images up to twice its limit; `opened` refuses them in a sentence.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# What converts to RGB and to grey; Lab, for one, does not without a colour profile.
_MODES = {
    *["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "I", "F"],
    "I;16",
    "I;16B",
    "I;16L",
    "I;16N",
}

_THRESHOLD: dict[MaskRule, int] = {"nonzero": 0, "half": 127}


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image at `path`, its header read; decoding it in the block raises what `open_image` raises."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            # Up to twice the limit Pillow only warns.
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if image.mode not in _MODES:
                raise KitError(
                    f"the image {path} has {image.mode}-mode pixels, which the kit does not convert; save it "
                    "as RGB or grey."
                )
            yield image
    except FileNotFoundError as error:
        raise KitError(
            f"the image {path} does not exist; restore it, or prepare the dataset again."
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise KitError(f"{path} is not an image the kit can read ({known}); replace or remove it.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise KitError(f"the image {path} has too many pixels to be opened safely; scale it down.") from error
    except _DECODING as error:
        raise KitError(
            f"the image {path} cannot be decoded ({error}); it may be truncated, replace or remove it."
        ) from error


def open_image(path: Path) -> Image.Image:
    """Decode the image at `path` completely: its first frame, as stored (an EXIF rotation is not applied).

    Raises:
        KitError: the file is missing, not an image, truncated, or too large to be decoded safely.
    """
    with opened(path) as image:
        image.load()
        return image


def load_image(path: Path, size: int) -> np.ndarray:
    """RGB pixels, (size, size, 3) uint8, by PIL's bicubic resize (official code: `transform.py`)."""
    return rgb(open_image(path), size)


def rgb(image: Image.Image, size: int, stored: bool = False) -> np.ndarray:
    """`image` in any mode as RGB pixels, (size, size, 3) uint8.

    Args:
        stored: resize in the file's own mode and make it RGB afterwards, as the official code does (ledger:
            resize-order): a palette's and a 1-bit image's pixels are then picked and not blended, hidden
            colours under transparency are left out, and 16-bit grey above 255 is white.
    """
    # PIL itself names this resize exactly: torchvision's Resize on a PIL image makes the same call.
    wanted = ((size, size), Image.Resampling.BICUBIC)
    return np.array(image.resize(*wanted).convert("RGB") if stored else as_rgb(image).resize(*wanted))


def as_rgb(image: Image.Image) -> Image.Image:
    """`image` in any mode as an RGB image. 16-bit grey keeps its upper eight bits."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def load_mask(path: Path, rule: MaskRule, image_size: tuple[int, int], size: int) -> np.ndarray:
    """Binary mask, (size, size) bool: binarised by `rule`, then resized bilinearly and cut at one half.

    Args:
        image_size: (width, height) of the image the mask belongs to.

    Raises:
        KitError: the mask is missing or unreadable, or its size is not the image's.

    Source: `dataset.py:90` (binarise), `utils.py:get_transform` (resize), `train.py` (cut at 0.5).
    """
    image = open_image(path)
    if image.size != image_size:
        raise KitError(
            f"the mask {path} is {image.size[0]}x{image.size[1]} pixels but its image is "
            f"{image_size[0]}x{image_size[1]}; a mask must be as large as its image."
        )
    binary = Image.fromarray(binarise(image, rule).astype(np.uint8) * 255)
    return np.asarray(binary.resize((size, size), Image.Resampling.BILINEAR)) > 127


def binarise(mask: Image.Image, rule: MaskRule) -> np.ndarray:
    """The anomalous pixels of a mask at its own size, (H, W) bool: the one reading, for labels and pixels.
    Sixteen-bit masks: 1 is anomalous to `nonzero`, the upper half of the range to `half`.

    Source: `dataset.py:90`.
    """
    if mask.mode.startswith("I"):
        return np.asarray(mask) > (0 if rule == "nonzero" else 0x7FFF)
    return mask_values(mask) > _THRESHOLD[rule]


def mask_values(mask: Image.Image) -> np.ndarray:
    """The grey values of a mask, (H, W) uint8. A palette is read by its colours, as a viewer shows it.
    Transparency does not count, unless the mask has one colour and its shape is in its alpha alone."""
    values = np.asarray(mask.convert("L"))
    if mask.has_transparency_data and values.min() == values.max():
        alpha = np.asarray(mask.convert("RGBA").getchannel("A"))
        if alpha.min() < alpha.max():
            return alpha
    return values
