"""Kept encodings: any subset is decoded later as if it had been segmented alone."""

import tempfile
from pathlib import Path

import pytest
import torch

from anymri.data.case import read_study
from anymri.data.image import to_lps
from anymri.data.layouts import find_cases
from anymri.errors import ModalityError, OutputError
from anymri.inference.encoded import EncodedVolume
from anymri.inference.segmenter import Segmenter
from anymri.inference.tiling import Windows
from anymri.inference.windows import predict
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry
from untrained import prepared, write_weights

SOME = Subset.parse("T1c+FLAIR")
# Arguments that the smallest crop of a network needs.
SMALLER = {"sfusion": {"grid": 4}}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter.load(write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", reconstruction=True))


@pytest.fixture
def case():
    return prepared(torch.randn(4, 40, 32, 20, generator=torch.Generator().manual_seed(1)), background=-1.0)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_decoding_every_subset_equals_segmenting_it(segmenter, tmp_path):
    [folder] = write_cohort(tmp_path, 1, size=48)
    encoded = segmenter.encode(read_study(find_cases(folder)[0]))
    for subset in SUBSETS:
        mask = encoded.case.paste(encoded.decode(subset).label_map())
        torch.testing.assert_close(
            torch.from_numpy(mask), torch.from_numpy(in_lps(segmenter.segment(folder, subset))), rtol=0, atol=0
        )


def in_lps(result):
    return to_lps(result.classes, result.reference.affine)[0].copy()


@pytest.mark.parametrize("name", registry.names())
def test_decoding_equals_predicting_with_every_system(name):
    torch.manual_seed(0)
    smallest = {"crop": 32} if "crop" in registry.card(name).switches else {}
    system = registry.create(name, preset="nano", **smallest, **SMALLER.get(name, {}))
    side = system.usable_crop((16, 16, 16))[0]
    case = prepared(torch.randn(4, side, side, side // 2), background=-1.0)
    windows = Windows((side,) * 3, 0.5)
    encoded = EncodedVolume(system, case, windows, memory_limit=0)
    for subset in (SOME, ALL):
        expected = predict(system, case.only(subset), [subset], windows)[0].probabilities
        torch.testing.assert_close(encoded.decode(subset).probabilities, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [0, 5_000_000], ids=["all on disk", "some on disk"])
def test_encodings_beyond_the_memory_limit_are_kept_on_disk_without_loss(segmenter, case, temporary, limit):
    expected = segmenter.encode(case).decode(SOME, reconstruct=True)
    assert not list(temporary.iterdir())
    with segmenter.encode(case, memory_limit=limit) as encoded:
        [file] = temporary.rglob("encodings")
        assert encoded.bytes - file.stat().st_size <= max(limit, 1000)
        for _ in range(2):
            found = encoded.decode(SOME, reconstruct=True)
            torch.testing.assert_close(found.probabilities, expected.probabilities, rtol=0, atol=0)
        assert found.reconstructed.keys() == {"T1", "T2"}
        for modality, scan in found.reconstructed.items():
            torch.testing.assert_close(scan, expected.reconstructed[modality], rtol=0, atol=0)
    assert not list(temporary.iterdir())


def test_half_precision_halves_the_kept_encodings(segmenter, case):
    full, half = segmenter.encode(case), segmenter.encode(case, half=True)
    assert half.bytes == pytest.approx(full.bytes / 2, rel=0.01)
    torch.testing.assert_close(half.decode(ALL).probabilities, full.decode(ALL).probabilities, rtol=0, atol=1e-2)


def test_a_full_disk_is_reported_with_a_remedy(segmenter, case, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/nowhere")
    with pytest.raises(OutputError, match="do not fit") as refusal:
        segmenter.encode(case, memory_limit=0)
    assert "TMPDIR" in refusal.value.fix


def test_a_subset_that_was_not_encoded_is_refused(segmenter, case):
    with pytest.raises(ModalityError, match=r"T1c\+FLAIR, not T1"):
        segmenter.encode(case.only(SOME)).decode("T1")


def test_encodings_do_not_change_when_they_are_decoded(case):
    """Systems may complete an encoding while they decode; the kept one stays as it was."""
    torch.manual_seed(0)
    system = registry.create("shaspec", preset="nano")
    side = system.usable_crop((32, 32, 32))[0]
    encoded = EncodedVolume(system, prepared(torch.randn(4, side, side, side)), Windows((side,) * 3, 0.5))
    encoded.decode("T1c")
    assert all(kept.encoding.blank is None for kept in encoded._kept)


def test_the_temporary_file_is_deleted_with_the_volume(segmenter, case, temporary):
    encoded = segmenter.encode(case, memory_limit=0)
    assert list(Path(temporary).iterdir())
    encoded.close()
    assert not list(Path(temporary).iterdir())
