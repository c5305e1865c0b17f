import json
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
    write_cohort(folder, 1, size=48)
    return folder


@pytest.fixture
def case(cohort):
    return find_cases(cohort)[0]


@pytest.fixture
def cached(case, tmp_path):
    return cache_case(case, SCHEME, Preprocessing(), tmp_path)


def test_a_patch_equals_the_preprocessed_case(case, cached):
    data = preprocess(read_study(case, SCHEME), Preprocessing())
    start, size = (3, 4, 5), (16, 12, 20)
    images, classes = cached.read_patch(start, size)
    window = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    np.testing.assert_allclose(images, data.images[(slice(None), *window)], atol=np.abs(data.images).max() / 32767)
    assert (classes.numpy() == data.classes[window]).all()
    assert cached.origin == data.origin == tuple(side.start - 24 for side in data.box)


def test_a_patch_beyond_the_box_is_filled_with_background(cached):
    size = tuple(side + 10 for side in cached.shape)
    images, classes = cached.read_patch((-5, -5, -5), size)
    inner, inner_classes = cached.read_patch((0, 0, 0), cached.shape)
    assert torch.equal(images[:, 5:-5, 5:-5, 5:-5], inner) and torch.equal(classes[5:-5, 5:-5, 5:-5], inner_classes)
    assert torch.equal(images[:, 0, 0, 0], cached.background) and classes[0, 0, 0] == 0


def test_an_absent_modality_is_zeros_and_said_to_be_absent(cohort, tmp_path):
    copied = Path(shutil.copytree(cohort, tmp_path / "copy"))
    for file in copied.glob("*/*-t2w.nii.gz"):
        file.unlink()
    cached = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    assert cached.present.tolist() == [True, True, False, True]
    images, _ = cached.read_patch((0, 0, 0), cached.shape)
    assert not images[2].any() and images[[0, 1, 3]].flatten(1).any(1).all()


def test_an_entry_is_reused_while_files_and_settings_are_the_same(case, tmp_path):
    first = cache_case(case, SCHEME, Preprocessing(), tmp_path)
    written = (first.folder / "images.npy").stat().st_mtime_ns
    assert cache_case(case, SCHEME, Preprocessing(), tmp_path).folder == first.folder
    assert (first.folder / "images.npy").stat().st_mtime_ns == written
    assert cache_case(case, SCHEME, Preprocessing(drop_last_slice=True), tmp_path).folder != first.folder


def test_a_changed_scan_gets_a_new_entry(cohort, tmp_path):
    copied = Path(shutil.copytree(cohort, tmp_path / "copy"))
    before = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    scans = sorted(copied.glob("*/*-t1[nc].nii.gz"))
    shutil.copy(scans[0], scans[1])
    after = cache_case(find_cases(copied)[0], SCHEME, Preprocessing(), tmp_path / "cache")
    assert before.folder != after.folder


def test_an_interrupted_write_leaves_no_entry(case, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", broken)
    with pytest.raises(OutputError, match="No space left"):
        cache_case(case, SCHEME, Preprocessing(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_tumour_voxels_lie_in_the_tumour(cached):
    _, classes = cached.read_patch((0, 0, 0), cached.shape)
    by_class = cached.tumour_voxels()
    found = [set(classes.numpy()[tuple(voxels.T)].tolist()) for voxels in by_class]
    assert found == [{tissue} for tissue in np.unique(classes[classes > 0])]


def test_meta_is_plain_json(cached):
    assert set(json.loads((cached.folder / "meta.json").read_text())) == {"shape", "origin", "scale", "background"}
