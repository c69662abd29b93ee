"""How long `fap score` takes to start: processor seconds until the first batch of images is scored.

    python -m benchmarks.start          half a minute

Fresh processes on one thread, on the mini profile; compiled bytecode and the files in memory, as they are
from the second run on. Writes `benchmarks/results/start.json`; `python -m benchmarks.pages` puts its line
into `docs/detector.md`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks import detector_tables, pages
from benchmarks.detector_tables import START
from benchmarks.measure import processor
from data_prep.mini.generator import sample
from fap_lib.core.files import write_json

TURNS = 5

PROGRAM = """
import json, sys, time
from fap_lib.cli import main
from fap_lib.inference.detector import Detector
scored = Detector.forward
def forward(self, pixels):
    print(json.dumps({"start": time.process_time()}), file=sys.stderr)
    return scored(self, pixels)
Detector.forward = forward
main(["score", sys.argv[1], "--run", sys.argv[2], "--device", "cpu"])
"""

TORCH = """
import json, sys, time
import torch
print(json.dumps({"start": time.process_time()}), file=sys.stderr)
"""


def seconds(program: str, *arguments: str) -> float:
    """Processor seconds of a fresh process until it says that it has started; the median of some turns."""
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAP_PROGRESS": "0"}
    found = []
    for _ in range(TURNS + 1):  # the first one fills caches and does not count
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines = [line for line in done.stderr.splitlines() if line.startswith('{"start"')]
        found.append(json.loads(lines[0])["start"])
    return statistics.median(found[1:])


def main() -> None:
    """Measure, and write results and pages."""
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "image.png"
        Image.fromarray(sample("leather", "hole", 0).pixels).save(image)
        score = seconds(PROGRAM, str(image), str(Path(name) / "run"))
    found = {"score": score, "torch": seconds(TORCH), "turns": TURNS, "cpu": processor()}
    write_json(START, found)
    pages.write_pages()
    print(detector_tables.tables()["start"])


if __name__ == "__main__":
    main()
