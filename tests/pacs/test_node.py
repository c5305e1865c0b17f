"""A node, a real Orthanc and dcmtk: studies go round, and come back once and in the right place."""

import subprocess

import pytest

from anymri.modalities import MODALITIES
from pacs.hospital import Hospital, NodeProcess, assert_lies_right, configuration
from pacs.orthanc import free_port, need_tools


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    need_tools("storescu", "echoscu")
    with Hospital(tmp_path_factory.mktemp("hospital")) as made:
        yield made


def segmentation_of(hospital, study):
    """Return the only SEG of a study, and its only SR."""
    found = hospital.orthanc.results(study)
    assert [len(found[kind]) for kind in ("SEG", "SR")] == [1, 1]
    return found["SEG"][0], found["SR"][0]


def test_study_comes_back_as_segmentation_and_report_in_the_right_place(hospital):
    study = hospital.send(1, plane="sagittal", degrees=(10, -4, 7))
    hospital.sent(study)
    segmentation, report = segmentation_of(hospital, study)
    assert_lies_right(segmentation, hospital.segmenter, 1, degrees=(10, -4, 7))
    algorithm = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert hospital.segmenter.inputs["weights"]["sha256"][:12] in algorithm.AlgorithmVersion
    assert segmentation.SeriesDescription.startswith("Research") and report.SeriesDescription.startswith("Research")
    referred = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {each.ReferencedSOPInstanceUID for one in referred for each in one.ReferencedSOPSequence}
    assert segmentation.SOPInstanceUID in uids


def test_results_that_come_back_and_repeated_objects_and_another_study_of_the_patient_change_nothing(hospital):
    study = hospital.send(2, modalities=("T1c", "FLAIR"), multiframe=True)
    hospital.sent(study)
    before = segmentation_of(hospital, study)
    hospital.forward(study)  # with its results
    other = hospital.send(3, modalities=("T2",), multiframe=True, patient="P2")
    hospital.sent(other)
    after = segmentation_of(hospital, study)
    assert [each.SOPInstanceUID for each in before] == [each.SOPInstanceUID for each in after]
    assert len(hospital.node.of("segmented", study=study)) == 1
    assert_lies_right(segmentation_of(hospital, other)[0], hospital.segmenter, 3, modalities=("T2",))


def test_new_series_of_an_answered_study_gives_a_second_answer(hospital):
    study, files = hospital.write(4, multiframe=True)
    hospital.orthanc.add([*files["T1"], *files["T2"]])
    hospital.forward(study)
    hospital.sent(study)
    hospital.orthanc.add([*files["T1c"], *files["FLAIR"]])
    hospital.forward(study)
    hospital.sent(study, times=2)
    modalities = [each["modalities"] for each in hospital.node.of("segmented", study=study)]
    assert modalities == [["T1", "T2"], list(MODALITIES)]
    found = hospital.orthanc.results(study)
    assert len(found["SEG"]) == len(found["SR"]) == 2


def test_a_kill_and_an_archive_that_is_down_lose_nothing_and_double_nothing(hospital):
    hospital.orthanc.stop()
    study, files = hospital.write(5, modalities=("T1c", "T2", "FLAIR"))
    paths = [str(file) for series in files.values() for file in series]
    command = ["storescu", "-aec", "ANYMRI", "127.0.0.1", str(hospital.port)]
    subprocess.run([*command, *paths[:40]], check=True, capture_output=True)
    hospital.node.kill()
    hospital.node.start()
    subprocess.run([*command, *paths], check=True, capture_output=True)
    hospital.node.wait_for(lambda: hospital.node.of("undelivered", study=study))
    hospital.node.kill()
    hospital.node.start()
    hospital.orthanc.start()
    hospital.sent(study)
    segmentation, _ = segmentation_of(hospital, study)
    assert_lies_right(segmentation, hospital.segmenter, 5, modalities=("T1c", "T2", "FLAIR"))
    ended = hospital.node.stop()
    assert ended["result"]["studies"]["sent"] >= 1 and ended["result"]["studies"]["failed"] == 0
    hospital.node.start()


def test_study_without_any_of_the_four_sequences_fails_in_one_clear_sentence(hospital):
    study = hospital.send(6, modalities=("T1",), description="dti ep2d", multiframe=True)
    hospital.node.wait_for(lambda: hospital.node.of("failed", study=study))
    (event,) = hospital.node.of("failed", study=study)
    assert event["again"] is False and event["text"].startswith("The study does not have a scan that is T1, T1c, T2")
    assert "Phantom" not in event["text"] and str(hospital.folder) not in event["text"]


def test_patient_is_named_nowhere_in_events_and_queue(hospital):
    content = "".join(hospital.node.text)
    assert "1.2.826" in content and "Phantom" not in content
    assert b"Phantom^" not in (hospital.folder / "node" / "node.sqlite").read_bytes()


def test_echo_is_answered(hospital):
    called = ["echoscu", "-aec", "ANYMRI", "-aet", "STORESCU", "127.0.0.1", str(hospital.port)]
    assert subprocess.run(called, capture_output=True, check=False).returncode == 0


def test_dicomweb_rule_fetches_studies_and_stores_results(tmp_path, hospital):
    study, files = hospital.write(7, multiframe=True)
    hospital.orthanc.add([file for series in files.values() for file in series])
    web = {"url": hospital.orthanc.dicomweb}
    rule = {**web, "query": {"StudyInstanceUID": study}, "days": None, "every_seconds": 0.5}
    file = configuration(
        tmp_path,
        hospital.weights,
        free_port(),
        hospital.orthanc.port,
        receive=None,
        poll=[rule],
        send=[{"name": "web", "web": web}],
        results=["segmentation", "labelmap", "report"],
    )
    command = NodeProcess(file).start(expect="receiving")
    command.wait_for(lambda: command.of("sent", study=study))
    assert command.stop()["result"]["studies"]["sent"] == 1
    found = hospital.orthanc.results(study)
    assert {each.SegmentationType for each in found["SEG"]} == {"BINARY", "LABELMAP"} and len(found["SR"]) == 1
    for each in found["SEG"]:
        assert_lies_right(each, hospital.segmenter, 7)
