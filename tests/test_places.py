"""The kit in an odd place: an odd path, another working directory, umask 077, no HOME, a foreign locale."""

import json
from pathlib import Path

from PIL import Image

from tests.campaign import places


def test_the_kit_works_from_a_path_with_quotes_in_an_environment_with_nothing(tmp_path):
    base = tmp_path / places.ODD
    before = places.lay_out(base)
    for name in ("good/ü.png", "good/2.png", "hole/it's.png"):
        path = base / "Fotos vom März" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (90, 90, 90)).save(path)
    done = places.run(base, ["data", "folder", str(base / "Fotos vom März"), "--name", "Teile für 部品"])
    assert done.returncode == 0, done.stderr
    made = base / "home" / "data" / "Teile für 部品"
    (defects,) = json.loads((made / "meta.json").read_text(encoding="utf-8"))["test"].values()
    assert sorted(Path(entry["img_path"]).name for entry in defects) == ["2.png", "it's.png", "ü.png"]
    assert (made / "meta.json").stat().st_mode & 0o777 == 0o600
    assert places.contents(base) == before
