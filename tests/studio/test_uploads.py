"""Files that a browser sends: names, limits, archives."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from anymri.studio import uploads
from anymri.studio.uploads import safe_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("t1.nii.gz", "t1.nii.gz"),
        ("study/t1.nii.gz", "study/t1.nii.gz"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\scans\\t1.nii", "C_/scans/t1.nii"),
        ("..\\..\\t1.nii", "t1.nii"),
        ("a/./../b//t1.nii", "a/b/t1.nii"),
        ("t1\x00\n\x1b[31m.nii", "t1[31m.nii"),
        ("\u202eiin.1t", "iin.1t"),
        ("e\u0301tude.nii", "\u00e9tude.nii"),
        ("\uff0e\uff0e/t1.nii", "\uff0e\uff0e/t1.nii"),
        ("con.nii", "_con.nii"),
        ('a<b>"c|d?e*.nii', "a_b__c_d_e_.nii"),
        (" . ", "file"),
        ("", "file"),
    ],
)
def test_names_of_files_stay_inside_their_folder(name, path):
    assert safe_path(name) == Path(path)


def test_hidden_files_are_left_out_and_long_names_keep_their_suffix():
    assert safe_path(".DS_Store") is None and safe_path("a/.git/config") is None
    long = safe_path("x" * 500 + ".nii.gz")
    assert len(long.name.encode()) <= 120 and long.name.endswith(".nii.gz")
    assert len(safe_path("/".join("abcdefghijklmn")).parts) == 8


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def error(response, status):
    assert response.status_code == status, response.text
    found = response.json()["error"]
    assert found["what"] and found["fix"]
    return found["what"]


def temporary(page):
    return {path.name for path in page.studio.entries.folder.iterdir()}


def test_files_and_their_folders_are_stored_under_the_names_of_the_browser(page):
    entry = page.upload(("study/a/t1.nii", b"1"), ("study/b/t2.nii", b"2")).json()["entry"]
    place = page.studio.case(entry["id"]).source.place
    assert entry["name"] == "study" and entry["state"] == "found"
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.nii")) == ["a/t1.nii", "b/t2.nii"]


def test_two_files_of_one_name_are_both_kept(page):
    entry = page.upload(("t1.nii", b"1"), ("t1.nii", b"2")).json()["entry"]
    place = page.studio.case(entry["id"]).source.place
    assert sorted(path.read_bytes() for path in place.iterdir()) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("limit", "value", "files", "word"),
    [
        ("LARGEST_FILE", 10, [("a.nii", b"x" * 11)], "a.nii"),
        ("MOST_BYTES", 10, [("a.nii", b"x" * 6), ("b.nii", b"x" * 6)], "GiB"),
        ("MOST_FILES", 2, [("a.nii", b"x")] * 3, "more than 2 files"),
    ],
)
def test_uploads_over_a_limit_are_refused_and_leave_nothing(page, monkeypatch, limit, value, files, word):
    monkeypatch.setattr(uploads, limit, value)
    before = temporary(page)
    assert word in error(page.upload(*files), 413)
    assert temporary(page) == before


def test_full_disk_is_an_error_before_anything_is_stored(page, monkeypatch):
    monkeypatch.setattr(uploads, "LEAST_FREE", 2**62)
    assert "cannot be stored" in error(page.upload(("a.nii", b"x")), 400)


def test_requests_that_are_not_forms_or_end_too_early_are_refused(page):
    before = temporary(page)
    error(page.post("/api/uploads", content=b"x", headers={"Content-Type": "text/plain"}), 413)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    begun = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\nhalf'
    error(page.post("/api/uploads", content=begun, headers=kind), 413)
    error(page.post("/api/uploads", content=b"--c\r\n", headers=kind), 413)
    error(page.post("/api/uploads", content=b"--b--\r\n", headers=kind), 413)
    assert temporary(page) == before


def test_zip_is_unpacked_and_opened(page, cohort):
    case = next(path for path in sorted(cohort.iterdir()) if path.is_dir())
    content = zipped({f"{case.name}/{file.name}": file.read_bytes() for file in case.glob("*.nii.gz")})
    entry = page.upload(("case.zip", content)).json()["entry"]
    _, found = page.ready(entry)
    assert [volume["name"] for volume in found["volumes"]] == ["T1", "T1c", "T2", "FLAIR"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (zipped({"../out.nii": b"x"}), "leads out"),
        (zipped({"/etc/out.nii": b"x"}), "leads out"),
        (zipped({"a.nii": bytes(200_000_000)}), "zip bomb"),
        (zipped({"a.nii": b"x" * 1000})[:-30], "damaged"),
        (b"PK\x03\x04" + b"x" * 50, "damaged"),
    ],
    ids=["parent", "absolute", "bomb", "cut off", "no archive"],
)
def test_hostile_archives_are_refused_before_they_are_unpacked(page, content, word):
    before = temporary(page)
    assert word in error(page.upload(("a.zip", content)), 400)
    assert temporary(page) == before


def test_archives_with_links_are_refused(page):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("t1.nii")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "link" in error(page.upload(("a.zip", stream.getvalue())), 400)


def test_archives_that_expand_to_more_than_the_limit_are_refused(page, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_UNPACKED", 1000)
    assert "expands" in error(page.upload(("a.zip", zipped({"a.nii": b"x" * 2000}))), 400)


def test_compressed_scan_that_expands_to_more_than_its_header_says_is_refused(page):
    import gzip

    import nibabel
    import numpy as np

    header = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_bytes()
    bomb = gzip.compress(header + bytes(300_000_000))
    path = f"/api/cases/{page.upload(('t1c.nii.gz', bomb)).json()['entry']['id']}"
    found = page.done(f"{path}/examine")
    assert found["entry"]["state"] == "failed"
    assert "more data" in found["entry"]["error"]["what"]
