"""Score images with an exported model: onnxruntime, NumPy and Pillow are all it needs.

    fap export paper --to exported
    python examples/score_onnx.py exported photo.jpg other.png

Prints a score in [0, 1] for each image, and writes its map beside the model, as large as the image.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def load(path: str, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """RGB pixels (size, size, 3) uint8, and the image's own width and height."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(small), image.size


def main(folder: Path, paths: list[str]) -> None:
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for path in paths:
        pixels, own_size = load(path, about["image_size"])
        scores, maps = model.run(["score", "map"], {"images": pixels[None]})
        limit = about["threshold"]
        flag = "" if limit is None else "  flagged" if scores[0] > limit else "  fine"
        print(f"{scores[0]:.4f}  {path}{flag}")
        large = Image.fromarray(maps[0]).resize(own_size, Image.Resampling.BILINEAR)
        grey = Image.fromarray((255 * np.asarray(large)).round().clip(0, 255).astype(np.uint8))
        grey.save(folder / f"{Path(path).stem}-map.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
