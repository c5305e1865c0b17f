"""The receiver: who may send, and what hostile or broken peers cannot do."""

import logging
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from anymri.pacs import places
from anymri.pacs.configuration import TLS, Caller, Limits, Receive
from anymri.pacs.database import Database
from anymri.pacs.intake import Intake
from anymri.pacs.peers import client_context
from anymri.pacs.receiver import Receiver
from pacs.hospital import write_study
from pacs.orthanc import free_port, need_tools

pynetdicom = pytest.importorskip("pynetdicom")
# pynetdicom, as the client of these tests, does not close sockets that the other side has ended.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    _, files = write_study(tmp_path_factory.mktemp("scans"), 1, modalities=("T1",))
    return files["T1"]


@contextmanager
def receiving(folder, callers=({"ae_title": "SENDER"},), tls=None, **limits):
    """Yield a port on which a receiver listens, with its intake."""
    (folder / places.INCOMING).mkdir(exist_ok=True)
    database, allowed = Database(folder), Limits(**limits)
    intake = Intake(folder, database, allowed, lambda *arguments, **values: None)
    settings = Receive(port=free_port(), callers=tuple(Caller(**each) for each in callers), tls=tls)
    receiver = Receiver(settings, allowed, intake)
    receiver.start()
    intake.receiver = receiver
    try:
        yield settings.port, intake
    finally:
        receiver.stop()
        database.close()


def associated(port, calling="SENDER", called="ANYMRI", tls_args=None):
    entity = pynetdicom.AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 20
    entity.add_requested_context(MR)
    entity.add_requested_context("1.2.840.10008.1.1")
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls_args)


def send(port, files, **how):
    """Return the status of each object; None where the association was ended."""
    association = associated(port, **how)
    assert association.is_established
    statuses = [association.send_c_store(str(file)).get("Status") for file in files if association.is_established]
    if association.is_established:
        association.release()
    return statuses


def assert_alive(port, files):
    """Check that an allowed program is served."""
    assert send(port, files[:1]) == [0]


def waits_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_object_arrives_byte_for_byte(tmp_path, files):
    with receiving(tmp_path) as (port, intake):
        assert send(port, files[:2]) == [0, 0] and intake.counts["taken"] == 2
    stored = [file.read_bytes() for file in (tmp_path / places.OBJECTS).rglob("*.dcm")]
    # All but the meta information, which names who wrote the file.
    assert sorted(each[-2000:] for each in stored) == sorted(file.read_bytes()[-2000:] for file in files[:2])


@pytest.mark.parametrize("how", [{"calling": "FOREIGN"}, {"called": "OTHER"}])
def test_foreign_ae_title_is_rejected(tmp_path, files, how):
    with receiving(tmp_path) as (port, intake):
        assert associated(port, **how).is_rejected
        assert intake.counts["refused association"] == 1
        assert_alive(port, files)


def test_ae_title_may_call_from_its_own_address_only(tmp_path, files):
    callers = ({"ae_title": "SENDER", "address": "10.9.8.7"}, {"ae_title": "OTHER"})
    with receiving(tmp_path, callers) as (port, intake):
        association = associated(port)
        waits_for(lambda: not association.is_established)
        waits_for(lambda: intake.counts["refused caller"] == 1)
        assert send(port, files[:1], calling="OTHER") == [0]


def test_connection_from_an_address_of_no_caller_is_closed_at_once(tmp_path):
    with receiving(tmp_path, ({"ae_title": "SENDER", "address": "10.9.8.7"},)) as (port, intake):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            assert peer.recv(1) == b""
        assert intake.counts["refused address"] == 1


def test_oversized_object_is_refused(tmp_path, files):
    with receiving(tmp_path, bytes_per_object=1000) as (port, _):
        assert send(port, files[:1]) == [0xA700]
        assert not list(tmp_path.rglob("*.dcm"))


def test_object_beyond_the_limit_is_not_collected_in_memory(tmp_path, files):
    with receiving(tmp_path, bytes_per_object=1_000_000) as (port, intake):
        from pydicom import dcmread

        large = dcmread(files[0])
        large.PixelData = b"\0" * 50_000_000
        association = associated(port)
        association.send_c_store(large)
        waits_for(lambda: not association.is_established)
        waits_for(lambda: intake.receiver._in_flight.connections == 0)
        assert intake.receiver._in_flight._bytes == 0
        assert_alive(port, files)


def test_objects_in_flight_are_limited_over_all_associations(tmp_path, files):
    with receiving(tmp_path, bytes_in_flight=1000) as (port, intake):
        association = associated(port)
        association.send_c_store(str(files[0]))
        waits_for(lambda: not association.is_established)
        assert intake.counts["taken"] == 0
        waits_for(lambda: intake.receiver._in_flight.connections == 0)


def test_objects_per_association_are_limited(tmp_path, files):
    with receiving(tmp_path, objects_per_association=2) as (port, _):
        assert send(port, files[:4]) == [0, 0, 0xA700, 0xA700]
        assert send(port, files[2:4]) == [0, 0]


MALFORMED = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": b"\0" * 100,
    "endless request": struct.pack(">BBL", 1, 0, 2**31) + b"\xff" * 1_000_000,
    "request of noise": struct.pack(">BBL", 1, 0, 68) + b"\xff" * 68,
    "data before the request": struct.pack(">BBL", 4, 0, 20) + b"\0" * 20,
    "one byte": b"\x01",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_association_is_ended_and_the_next_is_served(tmp_path, files, content):
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    with receiving(tmp_path, idle_seconds=1) as (port, intake):
        with socket.create_connection(("127.0.0.1", port), 10) as peer, suppressed():
            peer.sendall(content)
            peer.settimeout(20)
            while peer.recv(1000):
                pass
        assert_alive(port, files)
        waits_for(lambda: intake.receiver._in_flight.connections == 0)


def suppressed():
    from contextlib import suppress

    return suppress(ConnectionError)


def test_silent_connections_are_closed_and_do_not_block_others(tmp_path, files):
    with receiving(tmp_path, idle_seconds=2) as (port, intake):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        assert_alive(port, files)
        waits_for(lambda: intake.receiver._in_flight.connections == 0)
        for peer in silent:
            peer.close()


def test_flood_of_connections_is_refused_and_ends(tmp_path, files):
    with receiving(tmp_path, associations=3, idle_seconds=3) as (port, intake):
        flood = []
        for _ in range(100):
            with suppressed():
                flood.append(socket.create_connection(("127.0.0.1", port), 10))
        waits_for(lambda: intake.counts["refused connections"] > 50)
        assert intake.receiver._in_flight.connections <= 23
        assert sum("Acceptor" in thread.name for thread in threading.enumerate()) < 30
        for peer in flood:
            peer.close()
        waits_for(lambda: not any("Acceptor" in thread.name for thread in threading.enumerate()))
        assert intake.receiver._in_flight.connections == 0
        assert_alive(port, files)


def test_echo_is_answered(tmp_path):
    with receiving(tmp_path) as (port, _):
        association = associated(port)
        assert association.send_c_echo().Status == 0
        association.release()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return the files of TLS of a server and of a client; each signs itself."""
    need_tools("openssl")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def of(folder, name, other):
    return TLS(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", authorities=folder / f"{other}.pem")


def test_tls_serves_those_with_a_certificate_and_refuses_others(tmp_path, files, certificates):
    with receiving(tmp_path, tls=of(certificates, "server", "client"), idle_seconds=5) as (port, intake):
        mine = client_context(of(certificates, "client", "server"))
        assert send(port, files[:3], tls_args=(mine, "127.0.0.1")) == [0, 0, 0]
        stranger = ssl.create_default_context(cafile=certificates / "server.pem")
        assert not associated(port, tls_args=(stranger, "127.0.0.1")).is_established
        assert not associated(port).is_established  # without TLS
        waits_for(lambda: intake.counts["refused tls"] >= 2)
        assert send(port, files[3:5], tls_args=(mine, "127.0.0.1")) == [0, 0]
        waits_for(lambda: intake.receiver._in_flight.connections == 0)
