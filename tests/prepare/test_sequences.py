"""Recognition of T1, T1c, T2 and FLAIR from headers, names and intensities."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from anymri.data.image import Image, read_image
from anymri.modalities import MODALITIES
from anymri.prepare.contrast import measure_contrast
from anymri.prepare.dicom import read_dicom
from anymri.prepare.sequences import (
    SURE,
    Recognition,
    assign,
    recognise,
    recognise_image,
    recognise_study,
)
from anymri.synthesis.phantoms import phantom
from prepare.dicom.series import write_series

NO_IMAGE = Image(np.zeros((8, 8, 8), np.float32), np.eye(4), Path("x"))
# Voxels of this size give a phantom of 64 voxels the size of a head.
PHANTOM_MM = 2.6


def series(description="", acquired=None, image=NO_IMAGE, **headers):
    dataset = Dataset()
    if description:
        dataset.SeriesDescription = description
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    return SimpleNamespace(headers=(dataset,), image=image, acquired=acquired)


def times(te, tr, ti=None, sequence="SE", **others):
    headers = {"EchoTime": te, "RepetitionTime": tr, "ScanningSequence": sequence} | others
    return headers if ti is None else headers | {"InversionTime": ti}


def head(modality, seed=0):
    affine = np.diag([-PHANTOM_MM, -PHANTOM_MM, PHANTOM_MM, 1])
    return Image(phantom((9, seed), 64).images[modality].astype(np.float32), affine, Path("x"))


MPRAGE, SPIN_ECHO = times(2.3, 1900, 900, "GR"), times(10, 500)
FLUID_NULLED, LONG = times(90, 9000, 2500, ["SE", "IR"]), times(98, 5000)
AGENT = {"ContrastBolusAgent": "Gadovist"}
SURE_CASES = [
    ("t1_mprage_sag_p2_iso", MPRAGE, "T1"),
    ("t1_mprage_sag_p2_iso", MPRAGE | AGENT, "T1c"),
    ("t1_mprage_sag_p2_iso_KM", MPRAGE, "T1c"),
    ("MPRAGE", MPRAGE, "T1"),
    ("MPRAGE GAD", MPRAGE, "T1c"),
    ("Ax 3D BRAVO", times(3.2, 8.2, 450, "GR"), "T1"),
    ("+C Ax 3D BRAVO", times(3.2, 8.2, 450, "GR") | AGENT, "T1c"),
    ("t1_se_tra", SPIN_ECHO | {"ContrastBolusAgent": "NONE"}, "T1"),
    ("AX T1 POST GD", SPIN_ECHO, "T1c"),
    ("sT1W_3D_TFE", times(3.1, 6.8, sequence="GR"), "T1"),
    ("Ax T1 FLAIR", times(9, 2200, 860, ["SE", "IR"]), "T1"),
    ("Ax T1 FLAIR +C", times(9, 2200, 860, ["SE", "IR"]) | AGENT, "T1c"),
    ("T1 pre", {}, "T1"),
    ("T1 C+", {}, "T1c"),
    ("t2_tse_tra_5mm", LONG, "T2"),
    ("t2_space_sag_p2_iso", times(409, 3200), "T2"),
    ("", LONG, "T2"),
    ("t2_tirm_tra_dark-fluid_4mm", FLUID_NULLED, "FLAIR"),
    ("t2_space_dark-fluid_sag_p2_iso", times(394, 5000, 1800, ["SE", "IR"]), "FLAIR"),
    ("Ax T2 FLAIR +C", FLUID_NULLED | AGENT, "FLAIR"),
    ("", FLUID_NULLED, "FLAIR"),
    ("", times(194, 4000, 1400, ["SE", "IR"]), "FLAIR"),
    ("ep2d_diff_3scan_trace_p2", times(90, 5000, sequence="EP"), None),
    ("", times(90, 5000, sequence="EP", DiffusionBValue=1000), None),
    ("ep2d_perf", times(30, 1500, sequence="EP"), None),
    ("relCBV", {}, None),
    ("SWI_Images", times(20, 27, sequence="GR"), None),
    ("Ax T2* GRE", times(15, 600, sequence="GR"), None),
    ("t2_fl2d_tra_hemo", times(25, 800, sequence="GR"), None),
    ("TOF_3D_multi-slab", times(3.4, 21, sequence="GR", SequenceVariant=["SP", "TOF"]), None),
    ("PD_TSE_tra", times(12, 3000), None),
    ("STIR cor", times(60, 4000, 150, ["SE", "IR"]), None),
    ("localizer", times(3, 8, sequence="GR"), None),
    ("3-plane loc", times(3, 8, sequence="GR"), None),
    ("T2 tse sag C-SPINE", LONG, None),
    ("t2_tse_sag", LONG | {"BodyPartExamined": "KNEE"}, None),
]


@pytest.mark.parametrize(("description", "headers", "expected"), SURE_CASES)
def test_usual_protocols_are_recognised(description, headers, expected):
    found = recognise(series(description, **headers))
    assert (found.modality, found.is_sure) == (expected, True)


@pytest.mark.parametrize(
    ("description", "headers", "against"),
    [
        ("t1_tse_tra", FLUID_NULLED, "FLAIR"),
        ("T2 tra", SPIN_ECHO, "T1"),
        ("FLAIR", LONG | {"AcquisitionContrast": "T2"}, "T2"),
    ],
)
def test_contradicting_headers_lower_the_confidence_and_are_shown(description, headers, against):
    found = recognise(series(description, **headers))
    alone = recognise(series(description))
    assert found.confidence < alone.confidence
    assert against in {each.speaks_for for each in found.conflicts}


def test_name_against_inversion_time_is_not_sure():
    assert not recognise(series("t1_tse_tra", **FLUID_NULLED)).is_sure


def test_silent_headers_say_nothing():
    assert recognise(series()) == Recognition(None, 0.0, ())
    assert not recognise(series("head")).is_sure


def test_name_t1_alone_does_not_say_whether_agent_was_given():
    found = recognise(series("ax t1"))
    assert found.modality == "T1"
    assert not found.is_sure


def test_evidence_says_where_and_what():
    found = recognise(series("t2_tse", **LONG))
    sources = {each.source: each for each in found.evidence}
    assert sources["SeriesDescription"].value == "t2_tse"
    assert sources["EchoTime, RepetitionTime, InversionTime"].value.startswith("TE 98, TR 5000 ms")
    assert sources["SeriesDescription"].speaks_for == "T2"


def test_control_characters_of_headers_are_made_visible():
    found = recognise(series("T2 \x1b[31m tra"))
    assert "\x1b" not in found.evidence[0].value


def test_order_of_acquisition_tells_t1_before_from_after_agent():
    moment = datetime(2020, 1, 1, 10)
    study = [
        series("ax t1", moment.replace(minute=5)),
        series("t1_mprage", moment.replace(minute=20), **MPRAGE, **AGENT),
        series("ax t1", moment.replace(minute=40)),
        series("t2_tse", moment.replace(minute=50), **LONG),
    ]
    found = recognise_study(study)
    assert [each.modality for each in found] == ["T1", "T1c", "T1c", "T2"]
    assert found[0].is_sure
    assert found[3] == recognise(study[3])


def test_several_candidates_are_a_conflict():
    def found(modality, confidence=0.9):
        return Recognition(modality, confidence, ())

    recognitions = [found("T1"), found("T2"), found("T2"), found("FLAIR", SURE - 0.01), found(None)]
    assert assign(recognitions) == ({"T1": 0}, {"T2": (1, 2)})


def test_headers_of_an_enhanced_file_are_read_from_its_groups(tmp_path):
    array = np.random.default_rng(0).integers(0, 99, (8, 8, 6)).astype(np.int16)
    headers = {"EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}
    write_series(tmp_path, array, np.eye(4), multiframe=True, headers=headers)
    (one,), _ = read_dicom(tmp_path)
    found = recognise(one)
    assert (found.modality, found.is_sure) == ("FLAIR", True)
    assert "TE 120, TR 9000, TI 2500" in found.evidence[0].value


@pytest.mark.parametrize("modality", MODALITIES)
def test_intensities_of_phantoms_never_give_a_wrong_modality_for_sure(modality):
    right = 0
    for seed in range(3):
        found = recognise_image(head(modality, seed))
        right += found.modality == modality
        assert not found.is_sure or found.modality == modality
    assert right >= 2


def test_intensities_alone_never_tell_t1_from_t1c_for_sure():
    for modality in ("T1", "T1c"):
        assert not recognise_image(head(modality)).is_sure


def test_intensities_that_contradict_the_name_are_noticed():
    assert recognise_image(head("T2"), "T2").is_sure
    swapped = recognise_image(head("T2"), "FLAIR")
    assert swapped.confidence < recognise_image(head("FLAIR"), "FLAIR").confidence
    assert swapped.conflicts[0].source == "intensities"


def test_contrast_does_not_depend_on_scale_or_axes():
    image = head("FLAIR")
    flipped = Image(7 * image.array[::-1].transpose(2, 0, 1), image.affine @ flip_of(image), Path("x"))
    one, other = measure_contrast(image), measure_contrast(flipped)
    assert one.bright == pytest.approx(other.bright, rel=1e-3)
    assert one.dark == pytest.approx(other.dark, rel=1e-3)


def flip_of(image):
    """Return the voxels of the array with axes (z, -x, y) in those of `image`."""
    step = np.zeros((4, 4))
    step[0, 1], step[1, 2], step[2, 0], step[3, 3] = -1, 1, 1, 1
    step[0, 3] = image.shape[0] - 1
    return step


@pytest.mark.parametrize(("shape", "mm"), [((3, 3, 3), 1), ((30, 30, 30), 1), ((60, 60, 60), 3)])
def test_images_without_a_head_say_nothing(shape, mm):
    noise = Image(np.random.default_rng(0).random(shape).astype(np.float32), np.diag([mm, mm, mm, 1.0]), Path("x"))
    assert measure_contrast(noise) is None
    assert recognise_image(noise).confidence == 0


def test_scan_with_the_name_of_another_sequence_is_noticed(real_data):
    scan = read_image(real_data / "awkward" / "torchio-data" / "t2.nii.gz")
    found = recognise_image(scan, "t2")  # its fluid is dark: it is a FLAIR
    assert "FLAIR" in {each.speaks_for for each in found.conflicts}


def real_scans(folder):
    for case in ("brats-gli-00000-000", "brats-gli-00001-000", "brats-met-00110-000"):
        for modality, suffix in (("T1", "t1n"), ("T1c", "t1c"), ("T2", "t2w"), ("FLAIR", "t2f")):
            yield modality, next((folder / case).glob(f"*-{suffix}.nii.gz"))
    for space in ("atlas-space/TCGA-DU-7294_{}_bet", "native-space/TCGA-DU-7294_hdbet_native_{}"):
        for modality, word in (("T1", "t1"), ("T1c", "t1c"), ("T2", "t2"), ("FLAIR", "fla")):
            yield modality, folder / "tcga-du-7294" / f"{space.format(word)}.nii.gz"
    for case in ("brats_2013_pat0001_1", "brats_2013_pat0005_1"):
        yield "T1c", folder / "deepmedic-brats2013" / case / "T1c_subtrMeanDivStd.nii.gz"
        yield "FLAIR", folder / "deepmedic-brats2013" / case / "Flair_subtrMeanDivStd.nii.gz"
    yield "T1c", folder / "awkward" / "niivue-images" / "MR_Gd.nii.gz"
    yield "FLAIR", folder / "awkward" / "niivue" / "FLAIR.nii.gz"
    yield "T1", folder / "awkward" / "niivue" / "norm.mgz"
    yield "T1", folder / "awkward" / "sri24" / "sri24_t1_1mm_skull_stripped.nii.gz"
    yield None, folder / "awkward" / "niivue-images" / "chris_PD.nii.gz"


@pytest.mark.acceptance
def test_intensities_of_real_scans_give_their_modality(real_data):
    wrong = []
    for modality, file in real_scans(real_data):
        found = recognise_image(read_image(file))
        if found.modality != modality or (modality in ("T2", "FLAIR") and not found.is_sure):
            wrong.append((modality, file.name, found.modality, found.confidence))
    assert wrong == []
