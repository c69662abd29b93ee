"""What a detector may be given as an image: a path, a Pillow image, or an array of pixels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from fap_lib.core import arguments
from fap_lib.core.errors import KitError
from fap_lib.data.images import open_image

Picture = str | Path | Image.Image | np.ndarray


def is_single(images: Picture | Iterable[Picture]) -> bool:
    """Whether `images` is one image. An array of four axes is a batch, so it is not."""
    return isinstance(images, str | Path | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    )


def name_of(picture: Picture, index: int) -> str:
    """What messages and results call an image: its path, or its place from 0."""
    return str(picture) if isinstance(picture, str | Path) else f"image {index}"


def decode(picture: Picture, name: str) -> Image.Image:
    """The decoded image, as stored (an EXIF rotation is not applied).

    Raises:
        KitError: it is missing, damaged, too large, or of a kind that is not understood; `name` says which.
    """
    if isinstance(picture, str | Path):
        return open_image(arguments.place(picture))
    if isinstance(picture, Image.Image):
        try:
            picture.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise KitError(f"{name} cannot be decoded ({error}); replace it or leave it out.") from error
        return picture
    if not isinstance(picture, np.ndarray):
        raise KitError(
            f"{name} is of the type {type(picture).__name__}; give a path, a Pillow image, or an array "
            "(H, W, 3) of uint8."
        )
    colours = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not colours or 0 in picture.shape:
        raise KitError(
            f"{name} is an array {picture.shape} of {picture.dtype}; give RGB (H, W, 3) or grey (H, W) as "
            "uint8, from 0 to 255."
        )
    return Image.fromarray(picture)
