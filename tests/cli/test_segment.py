"""`anymri segment`: files written, and inputs refused by name with nothing written."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest

from anymri.layers import compiled
from cli.command import TRAINING, anymri, check_refused


def test_segment_writes_label_map_volumes_and_provenance(workshop, case, tmp_path):
    files = [next(case.glob(f"*-{suffix}.nii.gz")) for suffix in ("t1c", "t2f")]
    result = anymri(
        "segment", "--t1c", files[0], "--flair", files[1], "--weights", workshop / "run", "-o", tmp_path / "out"
    )
    assert result.returncode == 0, result.stderr
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["measurements.csv", "measurements.json", "provenance.json", "segmentation.nii.gz"]
    assert "T1c+FLAIR" in result.stdout and "mL" in result.stdout
    assert json.loads((tmp_path / "out" / "measurements.json").read_text())["case"] == case.name


@pytest.mark.usefixtures("not_compiled_yet")
def test_without_numba_a_line_says_so_and_the_mask_is_the_same(case, tmp_path, monkeypatch):
    def segmentation(name):
        result = anymri("segment", case, "--weights", "starter", "-o", tmp_path / name)
        assert result.returncode == 0, result.stderr
        image = nib.load(tmp_path / name / "segmentation.nii.gz")
        return np.asarray(image.dataobj), [line for line in result.stderr.splitlines() if "numba" in line]

    mask, lines = segmentation("with")
    assert not lines
    compiled._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    mask_without, lines = segmentation("without")
    assert len(lines) == 1 and "pip install -U 'anymri[fast]'" in lines[0]
    np.testing.assert_array_equal(mask_without, mask)


def truncated(folder, case):
    """Write the beginning of a scan."""
    path = folder / "truncated.nii.gz"
    path.write_bytes(next(case.glob("*-t1c.nii.gz")).read_bytes()[:2000])
    return path


def text(folder, case):
    """Write a text file with the name of a scan."""
    path = folder / "words.nii.gz"
    path.write_text("not an image")
    return path


def saved(folder, array):
    """Write an array as a scan."""
    path = folder / "made.nii.gz"
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 1, 1])), path)
    return path


BAD_SCANS = {
    "absent": lambda folder, case: folder / "absent.nii.gz",
    "a folder": lambda folder, case: folder,
    "truncated": truncated,
    "text": text,
    "4-D": lambda folder, case: saved(folder, np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)),
    "2-D": lambda folder, case: saved(folder, np.ones((8, 8), np.float32)),
    "NaN": lambda folder, case: saved(folder, np.where(np.indices((8, 8, 8))[0] == 3, np.nan, 1).astype(np.float32)),
    "constant": lambda folder, case: saved(folder, np.full((8, 8, 8), 7, np.float32)),
    "complex": lambda folder, case: saved(folder, np.ones((8, 8, 8), np.complex64)),
}


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_a_bad_scan_is_refused_by_name_and_nothing_is_written(workshop, case, tmp_path, kind):
    scan = BAD_SCANS[kind](tmp_path, case)
    result = anymri("segment", "--t1c", scan, "--weights", workshop / "run", "-o", tmp_path / "out")
    check_refused(result, scan.name)
    assert not (tmp_path / "out").exists()


def test_segment_without_a_scan_is_refused(workshop, tmp_path):
    result = anymri("segment", "--weights", workshop / "run", "-o", tmp_path / "out")
    check_refused(result, "scan was given", "--flair")


def test_files_that_are_not_weights_are_refused(case, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    for weights in ("w.safetensors", "nowhere"):
        result = anymri("segment", case, "--weights", tmp_path / weights, "-o", tmp_path / "out")
        check_refused(result, weights)


def test_an_output_that_a_file_blocks_is_refused(workshop, case, tmp_path):
    (tmp_path / "file").write_text("x")
    blocked = tmp_path / "file" / "out"
    check_refused(anymri("segment", case, "--weights", workshop / "run", "-o", blocked), "cannot be written")
    check_refused(anymri("phantom", "-n", 1, "-o", tmp_path / "file"), "cannot be written")
    trained = anymri("train", "u_hved", "--data", workshop / "data", *TRAINING, "-o", blocked)
    check_refused(trained, "cannot be written")
