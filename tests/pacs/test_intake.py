"""What a node takes, what it refuses with which status, and what it leaves on disk."""

import errno
import os

import pytest

from anymri.pacs import intake as module
from anymri.pacs import places
from anymri.pacs.configuration import Limits
from anymri.pacs.database import Database
from anymri.pacs.intake import Intake, sweep
from pacs.hospital import write_study

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Return the content of the files of a study of three objects and more."""
    _, files = write_study(tmp_path_factory.mktemp("scans"), 1, modalities=("T1",))
    return [file.read_bytes() for file in files["T1"]]


@pytest.fixture
def node(tmp_path):
    database = Database(tmp_path)
    (tmp_path / places.INCOMING).mkdir()
    (tmp_path / places.OBJECTS).mkdir()
    events = []

    def make(**limits):
        made = Intake(tmp_path, database, Limits(**limits), lambda kind, **values: events.append((kind, values)))
        made.folder, made.database, made.events = tmp_path, database, events
        return made

    yield make
    database.close()


def taken(intake, content, expected=None):
    """Return the status of an object, 0 if it was taken."""
    refused = intake.take(b"", content, expected, 0)
    return 0 if refused is None else refused.status


def changed(content, **elements):
    """Return an object with changed elements."""
    from io import BytesIO

    dataset = pydicom.dcmread(BytesIO(content))
    for keyword, value in elements.items():
        dataset[keyword]._value = value
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def files(intake):
    return sorted(file for file in intake.folder.rglob("*.dcm"))


def test_object_is_whole_on_disk_and_repeated_ones_change_nothing(node, objects):
    intake = node()
    assert [taken(intake, each) for each in (*objects[:3], *objects[:2])] == [0] * 5
    assert sorted(file.read_bytes() for file in files(intake)) == sorted(objects[:3])
    assert intake.counts == {"taken": 3, "repeated": 2}
    assert intake.database.number("SELECT count(*) FROM objects") == 3
    assert [kind for kind, _ in intake.events] == ["receiving"]


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "/etc/passwd", "1.2.3/../../x", "1." + "2" * 70, "", "1.2.x"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID"])
def test_uid_that_is_none_is_refused_and_names_no_file(node, objects, uid, keyword):
    intake = node()
    content = changed(objects[0], **{keyword: uid})
    assert taken(intake, content) == 0xC000
    assert files(intake) == [] and not (intake.folder / "etc").exists()
    assert intake.counts == {"refused uid": 1}


def test_object_that_is_not_what_was_announced_is_refused(node, objects):
    assert taken(node(), objects[0], expected="1.2.3") == 0xA900


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"\xff" * 5000])
def test_damaged_object_is_refused(node, content):
    intake = node()
    assert taken(intake, content) == 0xC000 and files(intake) == []


def test_object_that_is_no_mr_image_is_taken_and_not_kept(node, objects):
    intake = node()
    segmentation = "1.2.840.10008.5.1.4.1.1.66.4"
    assert taken(intake, changed(objects[0], SOPClassUID=segmentation, Modality="SEG")) == 0
    assert intake.counts == {"ignored": 1} and files(intake) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"bytes_per_object": 1000}, "size"),
        ({"bytes_on_disk": 10_000}, "quota"),
        ({"bytes_per_study": 10_000}, "study size"),
    ],
)
def test_object_beyond_a_limit_is_refused_as_out_of_resources(node, objects, limits, reason):
    intake = node(**limits)
    statuses = [taken(intake, each) for each in objects[:8]]
    assert statuses[-1] == 0xA700 and intake.counts[f"refused {reason}"] >= 1
    assert sum(file.stat().st_size for file in files(intake)) <= max(limits.values())


def test_new_study_is_refused_while_the_queue_is_full_and_a_known_one_goes_on(node, objects):
    intake = node(studies_waiting=1)
    assert taken(intake, objects[0]) == 0
    assert taken(intake, changed(objects[1], StudyInstanceUID="1.2.3")) == 0xA700
    assert taken(intake, objects[1]) == 0


def test_full_disk_refuses_the_object_and_leaves_no_part_of_it(node, objects, monkeypatch):
    intake = node()

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    assert taken(intake, objects[0]) == 0xA700
    assert files(intake) == [] and list((intake.folder / places.INCOMING).iterdir()) == []
    assert "No space left" in intake.events[-1][1]["text"]
    monkeypatch.undo()
    assert taken(intake, objects[0]) == 0


def test_sweep_removes_what_an_end_left_and_keeps_what_is_recorded(node, objects):
    intake = node()
    taken(intake, objects[0])
    (kept,) = files(intake)
    (kept.parent / "orphan.dcm").write_bytes(b"x")
    (intake.folder / places.INCOMING / ".anymri-host-1-2-part.dcm").write_bytes(b"x")
    lonely = intake.folder / places.OBJECTS / ("0" * 32)
    lonely.mkdir()
    sweep(intake.folder, intake.database)
    assert files(intake) == [kept] and not lonely.exists()
