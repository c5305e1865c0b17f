"""Cohorts of both styles: files of realistic cases, and styles that do not mix."""

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from anymri.cli.app import app
from anymri.errors import ConfigurationError, OutputError
from anymri.synthesis.phantoms import realistic_phantom, write_cohort
from anymri.synthesis.realistic.generator import generate

COARSE = 4.0


def test_realistic_case_is_written_with_its_geometry(tmp_path):
    [case] = write_cohort(tmp_path, 1, seed=2, style="realistic", spacing=COARSE)
    made = generate(2, 0, COARSE)
    for modality, suffix in zip(made.images, ("t1n", "t1c", "t2w", "t2f"), strict=True):
        image = nib.load(case / f"{case.name}-{suffix}.nii.gz")
        assert image.get_data_dtype() == np.int16
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.header.get_zooms(), COARSE)
        stored = np.asanyarray(image.dataobj)
        np.testing.assert_array_equal(stored > 0, made.brain)
        np.testing.assert_allclose(stored, made.images[modality], atol=0.51)
    np.testing.assert_array_equal(np.asanyarray(nib.load(case / f"{case.name}-seg.nii.gz").dataobj), made.labels)


def test_missing_scans_are_not_written_and_the_case_is_complete_without_them(tmp_path):
    write_cohort(tmp_path, 4, style="realistic", spacing=COARSE, missing=True)
    for index, case in enumerate(write_cohort(tmp_path, 4, style="realistic", spacing=COARSE, missing=True)):
        expected = set(realistic_phantom(0, index, COARSE, missing=True).images)
        assert len(list(case.glob("*.nii.gz"))) == len(expected) + 1
        recorded = json.loads((case / "phantom.json").read_text()).get("scans", [])
        assert set(recorded) in (expected, set())


def test_styles_are_not_mixed_in_one_folder(tmp_path):
    write_cohort(tmp_path, 1, size=32)
    with pytest.raises(OutputError, match="PHANTOM-00000-000"):
        write_cohort(tmp_path, 1, style="realistic", spacing=COARSE)


def test_unknown_style_is_refused_with_the_closest_name(tmp_path):
    with pytest.raises(ConfigurationError, match="realistic"):
        write_cohort(tmp_path, 1, style="realistc")


def test_command_writes_realistic_phantoms(tmp_path):
    result = CliRunner().invoke(
        app, ["phantom", "-n", "1", "--style", "realistic", "--spacing", "4", "-o", str(tmp_path / "cohort")]
    )
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "cohort" / "PHANTOM-00000-000" / "phantom.json").read_text())
    assert record["spacing"] == 4 and "realistic_version" in record
