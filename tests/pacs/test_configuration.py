"""The configuration of a node: the example, and what is refused."""

from importlib.resources import files

import pytest

from anymri.errors import AnymriError, ConfigurationError
from anymri.pacs.configuration import Limits, NodeConfiguration, Retry, Segmentation, read_configuration
from anymri.training import plain_yaml

SMALLEST = """
folder: node
poll: [{url: "http://127.0.0.1:8042/dicom-web/"}]
send: [{name: archive, ae_title: ORTHANC, host: 127.0.0.1, port: 4242}]
"""


def read(folder, text):
    (folder / "node.yaml").write_text(text)
    return read_configuration(folder / "node.yaml")


def test_example_is_complete_and_has_the_defaults(tmp_path):
    text = files("anymri.pacs").joinpath("example.yaml").read_text()
    found = read(tmp_path, text)
    assert found.limits == Limits() and found.retry == Retry() and found.segmentation == Segmentation()
    given = plain_yaml.read(text)
    fields = NodeConfiguration.model_fields
    assert set(given) | {"poll"} == set(fields)
    for name in ("results", "quiet_seconds", "complete_seconds", "keep_days", "metrics_port"):
        assert getattr(found, name) == fields[name].default
    assert set(given["limits"]) == set(Limits.model_fields) and set(given["retry"]) == set(Retry.model_fields)
    assert found.receive.host == "127.0.0.1" and found.receive.callers[0].address == "127.0.0.1/32"


def test_commented_part_of_the_example_fits_too(tmp_path):
    text = files("anymri.pacs").joinpath("example.yaml").read_text()
    for name in ("node.pem", "node.key", "clients.pem", "service.pem", "password.txt"):
        (tmp_path / name).write_text("x")
    begin, end = text.index("# poll:"), text.index("# Destinations")
    poll = "\n".join(line.removeprefix("# ") for line in text[begin:end].splitlines())
    text = text[:begin] + poll + "\n" + text[end:].replace("  # - name: web\n  #   web:", "  - name: web\n    web:")
    found = read(tmp_path, text.replace("  # tls:", "  tls:"))
    assert found.poll[0].password_file == tmp_path / "password.txt" and found.send[1].web.url.endswith("/dicom-web")
    assert found.receive.tls.key == tmp_path / "node.key"


def test_paths_are_relative_to_the_file_and_names_of_weights_stay(tmp_path):
    found = read(tmp_path, SMALLEST + "segmentation: {weights: starter}\n")
    assert found.folder == tmp_path / "node" and str(found.segmentation.weights) == "starter"
    (tmp_path / "w.safetensors").write_text("x")
    found = read(tmp_path, SMALLEST + "segmentation: {weights: w.safetensors}\n")
    assert found.segmentation.weights == tmp_path / "w.safetensors"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("quiet_second: 3", "did you mean quiet_seconds"),
        ("quiet_seconds: -1", "quiet_seconds"),
        ("receive: {callers: []}", "receive.callers"),
        ("receive: {callers: [{ae_title: A, address: nowhere}]}", "10.0.0.0/24"),
        ("receive: {callers: [{ae_title: ABCDEFGHIJKLMNOPQ}]}", "16 characters"),
        ("receive: {callers: [{ae_title: A}], host: here}", "127.0.0.1"),
        ("receive: {callers: [{ae_title: A}], tls: {}}", "certificate and key"),
        ("receive: {callers: [{ae_title: A}], tls: {certificate: a, key: b}}", "does not exist"),
        ("segmentation: {series: {T3: x}}", "T3"),
        ("segmentation: {series: {T1c: '('}}", "regular expression"),
        ("keep_days: 1", "keep_days"),
        ("results: [mask]", "results"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, word):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"{SMALLEST}{change}\n")
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (SMALLEST.replace("ae_title: ORTHANC, ", ""), "either ae_title, host and port, or web"),
        (SMALLEST.replace("http://", "ftp://"), "http://"),
        (SMALLEST.replace("poll", "#poll"), "receive"),
        ("folder: node\n", "send"),
        ("- a\n", "mapping"),
    ],
)
def test_whole_configurations_that_cannot_work_are_refused(tmp_path, text, word):
    with pytest.raises(AnymriError) as caught:
        read(tmp_path, text)
    assert word in str(caught.value) and "anymri pacs example" in str(caught.value)


def test_pause_doubles_up_to_its_limit():
    retry = Retry(first_seconds=5, most_seconds=60)
    assert [retry.pause(tries) for tries in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 40, 60, 60]
