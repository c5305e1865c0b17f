import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.data import cache
from anymri.data.cache import cache_case
from anymri.data.case import read_study
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import Preprocessing, preprocess
from anymri.errors import OutputError
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort

SCHEME = label_scheme("brats2023")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 1, size=32)
    return folder


@pytest.fixture
def case(cohort):
    return find_cases(cohort)[0]


@pytest.fixture
def cached(case, tmp_path):
    return cache_case(case, SCHEME, Preprocessing(), tmp_path)


def test_patch_equals_the_preprocessed_case(case, cached):
    data = preprocess(read_study(case, SCHEME), Preprocessing())
    start, size = (3, 4, 5), (8, 12, 10)
    patch = cached.read_patch(start, size)
    window = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    np.testing.assert_allclose(
        patch.images, data.images[(slice(None), *window)], atol=np.abs(data.images).max() / 32767
    )
    assert torch.equal(patch.classes, data.classes[window])
    assert patch.grid == data.grid == (32, 32, 32)


def test_patch_has_its_position_in_the_scan(case, cached):
    data = preprocess(read_study(case, SCHEME), Preprocessing())
    whole, patch = cached.read(), cached.read_patch((3, -4, 5), (8, 8, 8))
    assert whole.box == data.box
    assert whole.origin == data.origin == tuple(side.start - 16 for side in data.box)
    assert patch.origin == tuple(a + b for a, b in zip(data.origin, (3, -4, 5), strict=True))


def test_patches_do_not_depend_on_the_default_device(cached):
    with torch.device("meta"):
        patch = cached.read_patch((-5, 0, 0), (8, 8, 8))
    assert {t.device.type for t in (patch.images, patch.classes, patch.present, patch.background)} == {"cpu"}


def test_patch_beyond_the_box_is_filled_with_background(cached):
    outer = cached.read_patch((-5, -5, -5), tuple(side + 10 for side in cached.shape))
    inner = cached.read()
    assert torch.equal(outer.images[:, 5:-5, 5:-5, 5:-5], inner.images)
    assert torch.equal(outer.classes[5:-5, 5:-5, 5:-5], inner.classes)
    assert torch.equal(outer.images[:, 0, 0, 0], cached.background) and outer.classes[0, 0, 0] == 0


def test_missing_modality_is_zeros(cohort, tmp_path):
    copied = Path(shutil.copytree(cohort, tmp_path / "copy"))
    for file in copied.glob("*/*-t2w.nii.gz"):
        file.unlink()
    cached = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    whole = cached.read()
    assert cached.present.tolist() == whole.present.tolist() == [True, True, False, True]
    assert not whole.images[2].any() and whole.images[[0, 1, 3]].flatten(1).any(1).all()


def test_entry_is_reused_for_the_same_files_and_settings(case, tmp_path):
    first = cache_case(case, SCHEME, Preprocessing(), tmp_path)
    written = (first.arrays.folder / "images.npy").stat().st_mtime_ns
    assert cache_case(case, SCHEME, Preprocessing(), tmp_path).arrays.folder == first.arrays.folder
    assert (first.arrays.folder / "images.npy").stat().st_mtime_ns == written
    assert cache_case(case, SCHEME, Preprocessing(drop_last_slice=True), tmp_path).arrays.folder != first.arrays.folder


def test_changed_scan_gets_a_new_entry(cohort, tmp_path):
    copied = Path(shutil.copytree(cohort, tmp_path / "copy"))
    before = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    scans = sorted(copied.glob("*/*-t1[nc].nii.gz"))
    shutil.copy(scans[0], scans[1])
    after = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    assert before.arrays.folder != after.arrays.folder


def broken(*_, **__):
    """Raise the error of a full disk."""
    raise OSError(28, "No space left on device")


def test_interrupted_write_leaves_no_entry(case, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.np, "save", broken)
    with pytest.raises(OutputError, match="No space left"):
        cache_case(case, SCHEME, Preprocessing(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_tumour_voxels_are_in_the_tumour_of_their_class(cached):
    classes = cached.read().classes.numpy()
    found = [set(classes[tuple(voxels.T)].tolist()) for voxels in cached.tumour_voxels()]
    tissues = np.unique(classes[classes > 0])
    assert found == [{tissue} for tissue in tissues]
    assert [cached.has_class(tissue) for tissue in (*tissues, 9)] == [True] * len(tissues) + [False]


def test_meta_is_plain_json(cached):
    meta = json.loads((cached.arrays.folder / "meta.json").read_text())
    assert set(meta) == {"shape", "start", "grid", "scale", "background", "deviation", "arrays", "checksum"}
    assert set(meta["arrays"]) == {"images.npy", "classes.npy", "tumour.npy"}


def zeroed(file):
    file.write_bytes(file.read_bytes()[:256] + bytes(file.stat().st_size - 256))


def truncated(file):
    file.write_bytes(file.read_bytes()[:-1])


def changed(file):
    """Change a digit of the first number."""
    text = file.read_text()
    place = next(i for i, letter in enumerate(text) if letter.isdigit())
    file.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")


DAMAGES = [
    *((name, damage) for name in ("images.npy", "classes.npy", "tumour.npy") for damage in (zeroed, truncated)),
    *((name, Path.unlink) for name in ("classes.npy", "meta.json")),
    *(("meta.json", damage) for damage in (truncated, changed, lambda file: file.write_text("[]"))),
    ("meta.json", lambda file: file.write_bytes(bytes(500))),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_a_damaged_entry_is_made_again(case, tmp_path, number):
    name, damage = DAMAGES[number]
    entry = cache_case(case, SCHEME, Preprocessing(), tmp_path)
    before = {file.name: file.read_bytes() for file in entry.arrays.folder.iterdir()}
    assert not entry.rebuilt
    damage(entry.arrays.folder / name)
    again = cache_case(case, SCHEME, Preprocessing(), tmp_path)
    assert again.rebuilt and not cache_case(case, SCHEME, Preprocessing(), tmp_path).rebuilt
    assert {file.name: file.read_bytes() for file in again.arrays.folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [entry.arrays.folder]


def test_arrays_are_not_read_without_check(case, cached, tmp_path):
    zeroed(cached.arrays.folder / "images.npy")
    assert not cache_case(case, SCHEME, Preprocessing(), tmp_path, check=False).rebuilt


def test_a_damaged_entry_stays_until_the_new_one_is_complete(case, cached, tmp_path, monkeypatch):
    zeroed(cached.arrays.folder / "images.npy")
    monkeypatch.setattr(Path, "rename", lambda *_: broken())
    with pytest.raises(OutputError, match="No space left"):
        cache_case(case, SCHEME, Preprocessing(), tmp_path)
    monkeypatch.undo()
    assert cache_case(case, SCHEME, Preprocessing(), tmp_path).rebuilt


def test_entries_have_the_modes_of_the_umask(case, tmp_path):
    before = os.umask(0o027)
    try:
        entry = cache_case(case, SCHEME, Preprocessing(), tmp_path / "cache").arrays.folder
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (entry, *entry.iterdir())}
    assert set(modes.values()) == {0o750, 0o640} and modes[entry.name] == 0o750
