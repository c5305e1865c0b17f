"""The work on one study: its results, whole and once, and the reason where there are none."""

import errno
import os
import shutil

import pytest
from pydicom import dcmread

from anymri.data.workers import call
from anymri.files import sha256
from anymri.inference.result import Result
from anymri.pacs import places
from anymri.pacs.configuration import Segmentation
from anymri.pacs.jobs import content_of
from anymri.pacs.work import Request, result_files, segment_study
from pacs.hospital import write_study
from untrained import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def place(tmp_path, weights):
    """Return a function that puts a study into the folder of a node, and returns the request to segment it."""

    def put(*written, only_all=False, **settings):
        (study,) = {study for study, _ in written}
        for name in (places.WORK, places.RESULTS):
            (tmp_path / name).mkdir(exist_ok=True)
        uids = []
        for file in (file for _, files in written for series in files.values() for file in series):
            uids.append(str(dcmread(file, stop_before_pixels=True).SOPInstanceUID))
            target = places.object_file(tmp_path, study, uids[-1])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        chosen = Segmentation(weights=weights, device="cpu", brain="none", **settings)
        kinds = ("segmentation", "report")
        return Request(tmp_path, study, tuple(uids), content_of(uids), sha256(weights), only_all, chosen, kinds)

    return put


def written(folder, modalities=("T1c", "FLAIR"), **how):
    return write_study(folder / "in", 1, modalities=modalities, multiframe=True, **how)


def segment(request):
    """Return the answer of a worker."""
    return call(segment_study, request).value


def results(request):
    return places.result_folder(request.folder, request.study, request.content, request.weights)


def uids(request):
    return [str(dcmread(file).SOPInstanceUID) for file in result_files(results(request))]


def test_results_are_whole_and_not_made_twice_and_have_the_same_uids_if_they_are(tmp_path, place):
    request = place(written(tmp_path))
    answer = segment(request)
    assert answer.status == "segmented" and answer.modalities == ("T1c", "FLAIR")
    assert [file.name for file in result_files(results(request))] == ["segmentation.dcm", "measurements.dcm"]
    first, before = uids(request), results(request).stat().st_mtime_ns
    assert segment(request).status == "segmented" and results(request).stat().st_mtime_ns == before
    shutil.rmtree(results(request))
    segment(request)
    assert uids(request) == first
    assert list((tmp_path / places.WORK).iterdir()) == []


def test_early_study_without_all_modalities_is_left_as_it_is(tmp_path, place):
    answer = segment(place(written(tmp_path), only_all=True))
    assert (answer.status, answer.modalities) == ("incomplete", ("T1c", "FLAIR"))
    assert list((tmp_path / places.RESULTS).iterdir()) == []


def test_only_the_objects_of_the_job_are_read(tmp_path, place):
    request = place(written(tmp_path))
    place(written(tmp_path / "later", modalities=("T2",)))
    assert segment(request).modalities == ("T1c", "FLAIR")


def test_several_series_of_a_modality_fail_with_a_remedy_that_works(tmp_path, place):
    study, files = written(tmp_path, modalities=("T1c",))
    second = dcmread(files["T1c"][0])
    second.SeriesInstanceUID, second.SOPInstanceUID, second.SeriesNumber = "1.2.3.4", "1.2.3.5", 9
    second.SeriesDescription = "t1 mprage post gd"
    second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    second.save_as(tmp_path / "second.dcm")
    both = (study, files), (study, {"T1c": [tmp_path / "second.dcm"]})
    answer = segment(place(*both))
    assert (answer.status, answer.cause) == ("failed", "input")
    assert "segmentation.series" in answer.failure.fix and str(tmp_path) not in answer.failure.what
    assert segment(place(*both, series={"T1c": "mprage"})).status == "segmented"


def test_full_disk_leaves_nothing_behind_and_is_no_fault_of_the_study(tmp_path, place, monkeypatch):
    request = place(written(tmp_path))

    def full(self, folder, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(Result, "save", full)
    answer = segment(request)
    assert (answer.status, answer.cause) == ("failed", "disk") and "No space left" in answer.failure.what
    assert not results(request).exists() and list((tmp_path / places.WORK).iterdir()) == []
    monkeypatch.undo()
    assert segment(request).status == "segmented"


def test_damaged_object_fails_as_input_without_a_path(tmp_path, place):
    request = place(written(tmp_path))
    places.object_file(tmp_path, request.study, request.objects[0]).write_bytes(b"\0" * 128 + b"DICM" + b"x" * 500)
    answer = segment(request)
    assert (answer.status, answer.cause) == ("failed", "input")
    assert answer.failure.what.startswith("1 of 2 DICOM files of the study") and "/" not in answer.failure.what


def test_replaced_weights_are_noticed(tmp_path, place):
    from dataclasses import replace

    answer = segment(replace(place(written(tmp_path)), weights="0" * 64))
    assert (answer.status, answer.cause) == ("failed", "other") and "replaced" in answer.failure.what
