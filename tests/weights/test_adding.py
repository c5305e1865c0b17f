"""Installation of weights: what is copied, and what is refused with nothing installed."""

import errno
import io
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import Request

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from anymri.errors import OutputError, WeightsError
from anymri.files import sha256
from anymri.weights import adding, download
from anymri.weights.adding import add
from anymri.weights.catalogue import installed, verify
from untrained import write_weights

URL = "https://example.org/models/tumour.safetensors?download=true"


def serve(monkeypatch, content, length=None):
    """Answer every URL with this content."""
    headers = {} if length is None else {"Content-Length": str(length)}
    response = lambda: SimpleNamespace(headers=headers, read=io.BytesIO(content).read)
    monkeypatch.setattr(download, "open_url", lambda url: nullcontext(response()))


def check_not_installed(places, words, *arguments, error=WeightsError):
    """Check that weights are refused in one sentence with these words, and that nothing is left in the folder."""
    with pytest.raises(error, match=words) as caught:
        add(*arguments)
    assert "\n" not in caught.value.what and ".anymri-" not in caught.value.what
    assert installed() == [] and list(places.user.iterdir()) == []


def test_a_file_is_installed_under_its_name_or_another(places, source):
    file = write_weights(source / "tumour.safetensors")
    assert add(str(file), sha256=sha256(file).upper()).file == places.user / "tumour.safetensors"
    assert add(str(file), "other-1.0").name == "other-1.0"
    assert [verify(each) for each in installed()] == [sha256(file)] * 2
    assert {path.name for path in places.user.iterdir()} == {"tumour.safetensors", "other-1.0.safetensors"}


def test_the_first_folder_is_created(places, source, monkeypatch):
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(places.user / "new" / "folder"))
    add(str(write_weights(source / "w.safetensors")))
    assert (places.user / "new" / "folder" / "w.safetensors").is_file()


def test_weights_of_a_run_have_the_name_of_its_folder(places, source):
    (source / "run-7" / "checkpoints").mkdir(parents=True)
    write_weights(source / "run-7" / "checkpoints" / "best.safetensors")
    assert add(str(source / "run-7")).name == "run-7"


def test_frozen_tensors_are_installed_too(places, source):
    file = write_weights(source / "w.safetensors", frozen=("encoders.T1",))
    verify(add(str(file)))
    [frozen] = source.glob("frozen-*")
    frozen.unlink()
    with pytest.raises(WeightsError, match=r"source.*w\.safetensors needs frozen-"):
        add(str(file), "again")


def test_a_url_is_installed_with_its_hash(places, source, monkeypatch):
    file = write_weights(source / "w.safetensors")
    serve(monkeypatch, file.read_bytes(), file.stat().st_size)
    assert add(URL, sha256=sha256(file)).name == "tumour"
    assert sha256(places.user / "tumour.safetensors") == sha256(file)


def test_a_url_without_a_hash_is_refused(places):
    check_not_installed(places, "only with the SHA-256", URL)


@pytest.mark.parametrize(
    "url", ["http://example.org/w.safetensors", "file:///w.safetensors", "https:///w", "ftp://a/b"]
)
def test_urls_of_other_kinds_are_refused(places, url):
    check_not_installed(places, "not a URL of https", url, None, "0" * 64)


def test_a_redirection_away_from_https_is_refused():
    handler, request = download._HttpsRedirections(), Request(URL)
    with pytest.raises(WeightsError, match="not a URL of https"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.org/w")
    assert handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.org/w") is not None


def test_a_wrong_hash_is_refused(places, source, monkeypatch):
    file = write_weights(source / "w.safetensors")
    check_not_installed(places, "not 0000", str(file), None, "0" * 64)
    serve(monkeypatch, file.read_bytes())
    check_not_installed(places, "not 0000", URL, None, "0" * 64)


@pytest.mark.parametrize("text", ["", "abc", "0" * 63, "g" * 64, "0" * 65])
def test_a_text_that_is_not_a_hash_is_refused(places, text):
    check_not_installed(places, "not a SHA-256", URL, None, text)


def test_a_download_that_ends_early_is_refused(places, source, monkeypatch):
    serve(monkeypatch, b"x" * 1000, 5000)
    check_not_installed(places, "ended after 1,000 of 5,000 bytes", URL, None, "0" * 64)


@pytest.mark.parametrize("length", [None, 101])
def test_a_download_of_more_than_the_largest_size_is_refused(places, monkeypatch, length):
    monkeypatch.setattr(download, "LARGEST_BYTES", 100)
    serve(monkeypatch, b"x" * 101, length)
    check_not_installed(places, "the largest size", URL, None, "0" * 64)


def test_an_unreachable_host_is_refused_with_the_reason(places, monkeypatch):
    def fail(url):
        raise URLError("Name or service not known")

    monkeypatch.setattr(download, "open_url", fail)
    check_not_installed(places, "cannot be downloaded: Name or service not known", URL, None, "0" * 64)


def test_files_that_are_not_whole_weights_are_refused(places, source):
    whole = write_weights(source / "whole.safetensors").read_bytes()
    for content in (b"", b"nothing", whole[:-1000], whole[:50]):
        (source / "w.safetensors").write_bytes(content)
        check_not_installed(places, r"source.*w\.safetensors is damaged", str(source / "w.safetensors"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 2}, "newer anymri: its card has format 2"),
        ({"format": 2, "stranger": [1]}, "newer anymri: its card has format 2"),
        ({"network": {"width": 4, "num_classes": 7}}, "num_classes"),
        ({"subsets": ["T3"]}, "not a modality"),
        ({"tables": [{"data": "x", "cases": 1, "dice": {"T1": {"WT": 80}}}]}, "tables.0.dice"),
        ({"summary": "two\nlines"}, "summary"),
    ],
)
def test_weights_for_other_classes_or_of_a_newer_format_are_refused(places, source, fields, words):
    file = write_weights(source / "w.safetensors")
    with safe_open(file, framework="pt") as stored:
        card = json.loads(stored.metadata()["anymri"])
    save_file(load_file(file), file, metadata={"anymri": json.dumps(card | fields)})
    check_not_installed(places, words, str(file))


def test_a_taken_name_is_refused_and_the_weights_stay(places, source):
    file = write_weights(source / "w.safetensors", seed=1)
    before = sha256(write_weights(places.user / "w.safetensors"))
    write_weights(places.starters / "starter.safetensors")
    for name in ("w", "starter"):
        with pytest.raises(WeightsError, match="installed already"):
            add(str(file), name)
    assert sha256(places.user / "w.safetensors") == before


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "frozen-0123456789abcdef", "a" * 101, "a b"])
def test_names_that_are_not_plain_are_refused(places, source, name):
    check_not_installed(places, "cannot be named", str(write_weights(source / "w.safetensors")), name)


def test_a_full_disk_installs_nothing(places, source, monkeypatch):
    def write(path, content):
        path.write_bytes(next(iter(content))[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adding, "_write", write)
    file = write_weights(source / "w.safetensors")
    check_not_installed(places, "No space left on device", str(file), error=OutputError)


def test_a_folder_that_a_file_blocks_is_refused(places, source, monkeypatch):
    (source / "file").write_text("x")
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(source / "file" / "folder"))
    with pytest.raises(OutputError, match="cannot be written"):
        add(str(write_weights(source / "w.safetensors")))


def test_an_absent_file_is_refused(places):
    check_not_installed(places, "no weights at", str(Path("nowhere") / "w.safetensors"))
