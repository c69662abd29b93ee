"""Files that others made: nothing is executed, nothing hangs, and every refusal is one sentence."""

import gzip
import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from toy import GOLDEN, official

from data_prep.archives import unpack
from fap_lib.core import untrusted
from fap_lib.core.config import load_profile
from fap_lib.core.documents import load_yaml
from fap_lib.core.errors import SHOWN, KitError
from fap_lib.core.files import read_json
from fap_lib.data.images import open_image
from fap_lib.data.manifest import read_manifest
from fap_lib.grids import grid as grids
from fap_lib.official.checkpoint import read_official
from fap_lib.official.parity import read as read_parity

ONCE = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def refused(call, *arguments) -> str:
    with pytest.raises(KitError) as caught:
        call(*arguments)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 900, said
    return said


# --- the authors' checkpoints ---


STATES = {
    "a name that is a number": {7: torch.zeros(1)},
    "a name that is a tuple": {("a",): torch.zeros(1)},
    "text for a tensor": {"ctx_pos": "zeros"},
    "None for a tensor": {"ctx_neg": None},
    "a layer without number": {"compound_prompts_text.x": torch.zeros(4, 8)},
    "a layer of a huge number": {"compound_prompts_text.99999999999": torch.zeros(4, 8)},
    "a layer of another shape": {"compound_prompts_text.1": torch.zeros(4, 9)},
    "too few dimensions": {"ctx_pos": torch.zeros(5, 8)},
    "too many dimensions": {"ctx_neg": torch.zeros(1, 1, 1, 10, 2, 8)},
    "an empty tensor": {"ctx_pos": torch.zeros(1, 1, 0, 8)},
    "no dimension": {"patch_meta_net.linear1.weight": torch.tensor(1.0)},
    "not finite": {"ctx_pos": torch.full((1, 1, 5, 8), float("nan"))},
    "complex": {"ctx_pos": torch.zeros(1, 1, 5, 8, dtype=torch.complex64)},
    "sparse": {"ctx_pos": torch.zeros(1, 1, 5, 8).to_sparse()},
    "more values than there are": {"ctx_pos": torch.zeros(1).expand(1, 1, 5, 10**9)},
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_an_official_checkpoint_with_nonsense(tmp_path, change):
    torch.save({"prompt_learner": {**official(), **change}}, tmp_path / "x.pth")
    refused(read_official, tmp_path / "x.pth")


@pytest.mark.parametrize("content", [[], {}, 3, {"prompt_learner": []}, {"prompt_learner": {}}, None, "text"])
def test_a_pickle_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    refused(read_official, tmp_path / "x.pth")


@pytest.fixture(scope="module")
def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"prompt_learner": official()}, file)
    return file.getvalue()


@ONCE
@given(place=st.floats(0, 1), length=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8))
@example(place=0.0, length=0.0, junk=b"PK")
@example(place=0.0, length=1.0, junk=b"\x80\x02}q\x00.")
def test_a_damaged_checkpoint(tmp_path_factory, pickled, place, length, junk):
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    content = bytearray(pickled)
    start = int(place * (len(content) - 1))
    content[start : start + len(junk)] = junk
    path.write_bytes(content[: int(length * len(content))])
    try:
        read_official(path)  # a flip among the numbers of a file without digest is not noticed
    except KitError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# --- parity files ---

SIZES = {"pos_size": 42, "size": 70, "vlayers": 6, "vwidth": 128, "tlayers": 4, "deep_layers": 2, "dpam": 4}


def parity(path, config, **arrays):
    text = config if isinstance(config, str) else json.dumps(config)
    np.savez(path, config=text, **arrays)
    return path


CONFIGS = [
    "",
    "[]",
    "null",
    "{",
    "[" * 99999,
    {},
    {**SIZES, "B": 0},
    {**SIZES, "B": -3},
    {**SIZES, "B": 10**12},
    {**SIZES, "B": 2, "size": 0},
    {**SIZES, "B": 2, "size": -70},
    {**SIZES, "B": 2, "size": 71},
    {**SIZES, "B": 2, "vwidth": 10**9},
    {**SIZES, "B": 2, "vlayers": 10**6},
    {**SIZES, "B": 2, "vlayers": 48, "vwidth": 2048},
    {**SIZES, "B": 64, "size": 1022},
    {**SIZES, "B": 2, "deep_layers": 5},
    {**SIZES, "B": 2, "dpam": 9},
    {**SIZES, "B": 2, "full": "yes"},
    {**SIZES, "B": 2, "more": 1},
    {**SIZES, "B": 2.5},
    {**SIZES, "B": None},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_parity_file_with_impossible_sizes(tmp_path, config):
    refused(read_parity, parity(tmp_path / "x.npz", config))


def test_a_parity_file_of_other_things(tmp_path):
    good = {**SIZES, "B": 2}
    refused(read_parity, parity(tmp_path / "a.npz", good, words=np.array(["text"])))
    refused(read_parity, parity(tmp_path / "b.npz", good, objects=np.array([{}], dtype=object)))
    refused(read_parity, tmp_path / "none.npz")
    np.save(tmp_path / "c.npy", np.zeros(3))
    refused(read_parity, tmp_path / "c.npy")
    assert read_parity(parity(tmp_path / "d.npz", good, x=np.zeros(3)))[1]["B"] == 2
    assert len(read_parity(GOLDEN)[0]) == 100


def test_a_header_that_announces_terabytes_is_not_believed(tmp_path):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": (2**40,), "fortran_order": False, "descr": "<f2"})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", file.getvalue())
    assert "another size than announced" in refused(untrusted.arrays, tmp_path / "x.npz")


# --- YAML and JSON ---

LAUGHS = "a: &a [x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

DOCUMENTS = {
    "billion laughs": LAUGHS,
    "an alias of itself": "a: &a [*a]",
    "a merge key": "a: &a {b: 1}\nc: {<<: *a}",
    "a key that is a number": "1: 2",
    "a key that is null": "null: 2",
    "a key that is a list": "? [a]\n: 1",
    "a key that is there twice": "a: 1\na: 2",
    "deep lists": "a: " + "[" * 5000,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(300)),
    "a tag of Python": "a: !!python/object/apply:os.system [true]",
    "an unknown tag": "a: !x 1",
    "a NUL": "a: \0",
    "no UTF-8": b"a: \xff",
    "a list": "[1, 2]",
    "nothing": "",
    "a number of many digits": "a: " + "9" * 9999,
    "a bad date under a date's tag": "a: !!timestamp 2024-99-99",
    "too large": "a: " + "x" * (1 << 20),
    "two documents": "a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_yaml_that_is_no_settings_file(tmp_path, text):
    (tmp_path / "x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(load_yaml, tmp_path / "x.yaml", "grid")


def test_a_date_is_text(tmp_path):
    (tmp_path / "x.yaml").write_text("name: 2024-01-01\nother: 2024-99-99")
    assert load_yaml(tmp_path / "x.yaml", "grid") == {"name": "2024-01-01", "other": "2024-99-99"}


GRID = "profile: mini\ndatasets: {mini-a: [mini-test]}\nseeds: [1]\n"

GRIDS = [
    "profile: mini\ndatasets: {mini-a: []}\nseeds: [1]",
    "profile: mini\ndatasets: {}\nseeds: [1]",
    "profile: mini\ndatasets: {mini-a: [mini-test]}\nseeds: [-1]",
    "profile: mini\ndatasets: {mini-a: [mini-test]}\nseeds: [99999999999]",
    "profile: mini\ndatasets: {mini-a: [7]}\nseeds: [1]",
    "profile: mini\ndatasets: {mini-a: [[mini-test]]}\nseeds: [1]",
    "profile: mini\ndatasets: {../x: [mini-test]}\nseeds: [1]",
    'profile: mini\ndatasets: {mini-a: ["a\\nb"]}\nseeds: [1]',
    'profile: mini\ndatasets: {mini-a: ["a\\0b"]}\nseeds: [1]',
    f"profile: mini\ndatasets: {{mini-a: [{'x' * 300}]}}\nseeds: [1]",
    f"profile: {'x' * 9000}\ndatasets: {{mini-a: [mini-test]}}\nseeds: [1]",
    GRID + "shards: {mini-a: 0}",
    GRID + "shards: {mini-a: -2}",
    GRID + "threads: 0",
    GRID + "device: tpu",
    GRID + "settings: {training: {epochs: " + "[" * 12 + "]" * 12 + "}}",
    GRID + f"settings: {{model: {{{'x' * 5000}: 1}}}}",
    GRID + f"settings: {{model: {{mode: {'x' * 5000}}}}}",
    GRID + "settings: {training: {learning_rate: .nan}}",
    GRID + "baselines: [" + "x" * 5000 + "]",
]


@pytest.mark.parametrize("text", GRIDS)
def test_a_grid_with_impossible_values(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    refused(grids.load_grid, tmp_path / "x.yaml")


def test_settings_show_little_of_a_long_value():
    for changes in ({"model": {"mode": "x" * 5000}}, {"model": {"x" * 5000: 1}}, {"x" * 5000: {}}):
        refused(load_profile, "mini", changes)
    refused(load_profile, "x" * 5000)


JSON = {
    "nested": "[" * 99999,
    "not a number": '{"test": NaN}',
    "a key twice": '{"test": {}, "test": {}}',
    "a lone surrogate": '{"test": {"\\ud800": []}}',
    "many digits": '{"test": ' + "9" * 9999 + "}",
    "no UTF-8": b'{"test": "\xff"}',
}


@pytest.mark.parametrize("text", JSON.values(), ids=JSON)
def test_json_that_is_none(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(read_json, tmp_path / "x.json", "manifest")


ENTRY = {"img_path": "a.png", "mask_path": "", "cls_name": "c", "specie_name": "good", "anomaly": 0}

MANIFESTS = [
    {"test": {"c" * 300: [ENTRY]}},
    {"test": {"": [ENTRY]}},
    {"test": {"a\nb": [ENTRY]}},
    {"test": {"c": [{**ENTRY, "img_path": "/etc/passwd"}]}},
    {"test": {"c": [{**ENTRY, "img_path": "../../x.png"}]}},
    {"test": {"c": [{**ENTRY, "img_path": "a\0b"}]}},
    {"test": {"c": [{**ENTRY, "img_path": "x" * 5000}]}},
    {"test": {"c": [{**ENTRY, "img_path": ["a.png"] * 2000}]}},
    {"test": {"c": [{**ENTRY, "mask_path": "../m.png", "anomaly": 1}]}},
    {"test": {"c": [{**ENTRY, "specie_name": ["good"]}]}},
    {"test": {"c": [{**ENTRY, "specie_name": 7}]}},
    {"test": {"c": [{**ENTRY, "anomaly": "x" * 5000}]}},
    {"test": {"c": [{**ENTRY, "anomaly": 10**400}]}},
]


@pytest.mark.parametrize("content", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_with_impossible_entries(tmp_path, content):
    (tmp_path / "meta.json").write_text(json.dumps(content))
    refused(read_manifest, tmp_path)


@pytest.mark.parametrize("name", ["../x", "", 7, ["a"], "x" * 300, "a\nb"])
def test_a_dataset_that_calls_itself_what_no_folder_can_be_called(tmp_path, name):
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"c": [ENTRY]}}))
    (tmp_path / "dataset.json").write_text(json.dumps({"name": name}))
    refused(read_manifest, tmp_path)


@pytest.mark.parametrize(
    "line", ['{"image": []}', '{"split": []}', '{"split": "test", "image": {}}', "{}", "[]", "3", "{", '"x"']
)
def test_a_list_of_images_with_nonsense(dataset, line):
    (dataset.root / "manifest.jsonl").write_text(line + "\n")
    refused(read_manifest, dataset.root)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["img_path", "mask_path", "cls_name", "specie_name", "anomaly", "test", "train", "c"])


@ONCE
@given(
    st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES | st.lists(st.dictionaries(KEYS, VALUES))))
)
@example({"test": {"c": [{"img_path": "a", "anomaly": 0, "specie_name": 7}]}})
def test_any_manifest(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(content))
    try:
        read_manifest(folder)
    except KitError as error:
        assert len(str(error)) < 2 * SHOWN + len(str(folder)) + 300  # noqa: PT017


# --- images and archives ---


def test_a_lab_image_is_refused_as_image_and_as_mask(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "x.tif")
    assert "LAB-mode pixels" in refused(open_image, tmp_path / "x.tif")


def test_libraries_add_no_warnings_to_a_refusal(tmp_path):
    whole = io.BytesIO()
    Image.new("RGB", (8, 8)).save(whole, "TIFF")
    (tmp_path / "x.tif").write_bytes(whole.getvalue()[:-60])  # its table of tags is at the end
    commands = [["score", str(tmp_path / "x.tif")], ["checkpoint", str(tmp_path / "x.pth")]]
    torch.save({"prompt_learner": {}}, tmp_path / "x.pth", pickle_protocol=4)
    code = "import sys; from fap_lib.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in commands:
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


def tarred(**facts) -> bytes:
    """A tar with one member's header, and nothing of its content."""
    info = tarfile.TarInfo("a")
    for name, value in facts.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT).ljust(tarfile.RECORDSIZE, b"\0")


ARCHIVES = {
    "an empty zip": zipped(),
    "an empty tar": b"\0" * 10240,
    "a gz cut in its header": gzip.compress(tarred())[:6],
    "a gz that is only its header": gzip.compress(b"")[:10],
    "a negative size": tarred(size=-512),
    "a size without content": tarred(size=10**9),
    "a sparse file": tarred(type=tarfile.GNUTYPE_SPARSE),
    "a folder in the place of the mark": zipped(".complete.json/x"),
    "a file in the place of the mark": zipped(".complete.json"),
    "a path longer than the system allows": zipped("a/" * 3000 + "x"),
    "a name longer than the system allows": zipped("a" * 300),
    "a name that is no UTF-8, tar": tarred().replace(b"a\0", b"\xff\0", 1),
    "a name that is no UTF-8, zip": zipped("ü").replace("ü".encode(), b"\xff\xfe"),
    "a name with a line's end": zipped("a\nb"),
    "an empty name": zipped("x").replace(b"x", b"", 1),
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_an_odd_archive_leaves_nothing_behind(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    refused(unpack, tmp_path / "x.zip", tmp_path / "places" / "out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "x.zip"]


@ONCE
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=6), length=st.floats(0.2, 1))
@example(place=0.0, junk=struct.pack("<I", 0x06054B50), length=1.0)
def test_a_damaged_archive_leaves_nothing_behind(tmp_path_factory, place, junk, length):
    base = tmp_path_factory.getbasetemp() / "unpacked"
    base.mkdir(exist_ok=True)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"folder/{number}.txt", f"{number}" * 99)
    content = bytearray(file.getvalue())
    start = int(place * (len(content) - 1))
    content[start : start + len(junk)] = junk
    path = base.parent / "fuzzed.zip"
    path.write_bytes(content[: int(length * len(content))])
    try:
        unpack(path, base / "place")
    except KitError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert list(base.iterdir()) == []
    else:
        shutil.rmtree(base / "place")
