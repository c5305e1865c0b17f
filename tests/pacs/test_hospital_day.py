"""A day of a hospital in some minutes: fifty studies, kills, an archive that is down, and hostile peers."""

import os
import random
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.error

import pytest

from anymri.modalities import MODALITIES
from anymri.pacs.database import Database
from pacs.hospital import Hospital, assert_lies_right, children, peak_megabytes
from pacs.orthanc import need_tools

pytestmark = pytest.mark.acceptance
STUDIES = 50
SUBSETS = [MODALITIES] * 6 + [("T1c", "FLAIR"), ("T1", "T2", "FLAIR"), ("T2",)]
PLANES = ("axial", "coronal", "sagittal")
# Most series are one file, which is faster; the others have one file per slice.
FORMS = ({"multiframe": True}, {"multiframe": True, "reverse": True}, {"multiframe": True, "compression": "rle"}) * 2
FORMS += ({"shuffle": True},)
HALF, GROWING = 11, 12  # a study of which two series never come, and one that gets two more after its answer
MEGABYTES = 1_000_000


def modalities_of(number):
    return SUBSETS[number % len(SUBSETS)] if number not in (HALF, GROWING) else MODALITIES


def how(number):
    degrees = (7 * number % 30 - 15, 5 * number % 20 - 10, 3 * number % 40 - 20) if number % 4 else (0, 0, 0)
    return {"modalities": modalities_of(number), "plane": PLANES[number % 3], "degrees": degrees}


def forward(hospital, names):
    """Let Orthanc send to the node until it has succeeded, as its jobs do."""
    end = time.monotonic() + 900
    while time.monotonic() < end:
        try:
            if hospital.orthanc.forward(*names)["FailedInstancesCount"] == 0:
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.5)
    raise AssertionError("the node does not take the objects")


def series_of(hospital, study, modalities):
    names = hospital.orthanc.find("Series", StudyInstanceUID=study)
    numbers = {MODALITIES.index(each) + 1 for each in modalities}
    every = {name: int(hospital.orthanc.get(f"/series/{name}")["MainDicomTags"]["SeriesNumber"]) for name in names}
    return [name for name, number in every.items() if number in numbers]


def send_everything(hospital, studies, chance):
    """Forward all studies in a random order: some twice, some interleaved, one in half."""
    order = list(studies)
    chance.shuffle(order)
    while order:
        if len(order) > 1 and chance.random() < 0.3:  # two at a time, series by series
            names = [series_of(hospital, studies[n], MODALITIES) for n in (order.pop(), order.pop())]
            mixed = [each for pair in zip(*names, strict=False) for each in pair]
            mixed += [each for some in names for each in some if each not in mixed]
            for name in mixed:
                forward(hospital, [name])
        else:
            names = hospital.orthanc.find("Study", StudyInstanceUID=studies[order.pop()])
            forward(hospital, names)
            if chance.random() < 0.3:
                forward(hospital, names)


def wait_until_idle(hospital, seconds):
    """Wait until the node has nothing to do, and return its counts."""
    database = Database(hospital.folder / "node")
    end = time.monotonic() + seconds
    try:
        while True:
            counts = database.counts()
            if not sum(counts[each] for each in ("receiving", "ready", "segmenting", "segmented")):
                return counts
            assert time.monotonic() < end, counts
            time.sleep(0.5)
    finally:
        database.close()


def test_fifty_studies_and_ten_kills(tmp_path):
    chance = random.Random(3)
    with Hospital(tmp_path, quiet_seconds=20, complete_seconds=4) as hospital:
        studies = {}
        for number in range(STUDIES):
            study, files = hospital.write(number, **how(number), **FORMS[number % len(FORMS)])
            studies[number] = study
            kept = ("T1", "T2") if number in (HALF, GROWING) else MODALITIES
            hospital.orthanc.add([file for each in kept if each in files for file in files[each]])
            if number == GROWING:
                later = [file for each in ("T1c", "FLAIR") for file in files[each]]
        sender = threading.Thread(target=send_everything, args=(hospital, studies, chance))
        sender.start()
        for _ in range(10):
            time.sleep(chance.uniform(1, 12))
            hospital.node.kill()
            hospital.node.start()
        sender.join()
        wait_until_idle(hospital, 900)
        hospital.orthanc.add(later)
        forward(hospital, hospital.orthanc.find("Study", StudyInstanceUID=studies[GROWING]))
        counts = wait_until_idle(hospital, 300)
        assert counts["failed"] == 0 and counts["sent"] == STUDIES + 1, counts
        for number, study in studies.items():
            found = hospital.orthanc.results(study)
            answers = 2 if number == GROWING else 1
            assert [len(found["SEG"]), len(found["SR"])] == [answers, answers], number
            made_from = [("T1", "T2")] if number in (HALF, GROWING) else [modalities_of(number)]
            made_from += [MODALITIES] if number == GROWING else []
            segmentations = sorted(found["SEG"], key=lambda each: each.ContentDate + each.ContentTime)
            for segmentation, modalities in zip(segmentations, made_from, strict=True):
                assert_lies_right(
                    segmentation, hospital.segmenter, number, modalities=modalities, degrees=how(number)["degrees"]
                )


def test_results_of_an_archive_that_is_down_are_sent_later(tmp_path):
    with Hospital(tmp_path) as hospital:
        studies = [hospital.send(number, multiframe=True) for number in range(5)]
        hospital.orthanc.stop()
        hospital.node.wait_for(lambda: all(hospital.node.of("segmented", study=study) for study in studies), 200)
        hospital.orthanc.start()
        wait_until_idle(hospital, 100)
        for study in studies:
            found = hospital.orthanc.results(study)
            assert [len(found["SEG"]), len(found["SR"])] == [1, 1]


def test_death_of_the_worker_costs_one_try(tmp_path):
    with Hospital(tmp_path) as hospital:
        hospital.sent(hospital.send(0, multiframe=True))
        study = hospital.send(1, modalities=("T1c",), multiframe=True)
        hospital.node.wait_for(lambda: hospital.node.of("segmenting", study=study))
        (worker,) = children(hospital.node.process.pid)
        os.kill(worker, signal.SIGKILL)
        hospital.sent(study)
        (failure,) = hospital.node.of("failed", study=study)
        assert failure["again"] and "SIGKILL" in failure["text"]


def test_throughput_latency_and_memory_are_stated(tmp_path):
    with Hospital(tmp_path, complete_seconds=0.5) as hospital:
        first = hospital.send(100, multiframe=True)
        hospital.sent(first)  # the model is loaded
        (worker,) = children(hospital.node.process.pid)
        studies = [hospital.write(number, multiframe=True) for number in range(20)]
        for _, files in studies:
            hospital.orthanc.add([file for series in files.values() for file in series])
        began = time.time()
        for study, _ in studies:
            hospital.forward(study)
        wait_until_idle(hospital, 300)
        database = Database(tmp_path / "node")
        rows = database.rows(
            "SELECT sent, changed, seconds FROM deliveries JOIN jobs ON jobs.id = job "
            "JOIN studies ON studies.uid = study WHERE sent > ?",
            began,
        )
        database.close()
        assert len(rows) == len(studies)
        assert children(hospital.node.process.pid) == [worker]  # one loaded model, no other process
        minutes = (max(row["sent"] for row in rows) - began) / 60
        latency = [row["sent"] - row["changed"] for row in rows]
        seconds = statistics.median(row["seconds"] for row in rows)
        memory = peak_megabytes(hospital.node.process.pid), peak_megabytes(worker)
        print(
            f"\n{len(rows) / minutes:.0f} studies per minute, {seconds:.2f} s per segmentation, "
            f"latency {statistics.median(latency):.1f} s (median), {max(latency):.1f} s (largest), "
            f"memory of the node {memory[0]:.0f} MB, of its worker {memory[1]:.0f} MB"
        )


def request_of_echoscu():
    """Return the bytes with which dcmtk begins an association."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = str(server.getsockname()[1])
        command = subprocess.Popen(["echoscu", "-aec", "ANYMRI", "-aet", "STORESCU", "127.0.0.1", port])
        peer, _ = server.accept()
        with peer:
            request = peer.recv(100_000)
        command.wait()
    return request


def test_flood_of_500_associations_is_survived(tmp_path):
    need_tools("echoscu")
    request = request_of_echoscu()
    with Hospital(tmp_path, limits={"associations": 10, "idle_seconds": 5}) as hospital:
        before = peak_megabytes(hospital.node.process.pid)
        answers = []

        def attack():
            try:
                with socket.create_connection(("127.0.0.1", hospital.port), 20) as peer:
                    peer.sendall(request)
                    peer.settimeout(20)
                    answers.append(peer.recv(1))
                    time.sleep(1)
            except OSError:
                answers.append(b"")

        threads = [threading.Thread(target=attack) for _ in range(500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = peak_megabytes(hospital.node.process.pid) - before
        kinds = {
            name: answers.count(value) for name, value in (("accepted", b"\2"), ("rejected", b"\3"), ("closed", b""))
        }
        print(f"\n500 associations: {kinds}, {grown:.0f} MB more memory")
        assert len(answers) == 500 and kinds["rejected"] + kinds["closed"] > 300 and grown < 200
        time.sleep(6)
        study = hospital.send(1, multiframe=True)
        hospital.sent(study)


def test_oversized_objects_do_not_fill_the_memory(tmp_path):
    from pydicom import dcmread

    with Hospital(tmp_path, limits={"bytes_per_object": 20 * MEGABYTES}) as hospital:
        _, files = hospital.write(1, multiframe=True)
        large = dcmread(files["T1"][0])
        large.PixelData = b"\0" * (400 * MEGABYTES)
        large.save_as(tmp_path / "large.dcm")
        before = peak_megabytes(hospital.node.process.pid)
        command = ["storescu", "-aec", "ANYMRI", "127.0.0.1", str(hospital.port), str(tmp_path / "large.dcm")]
        senders = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)]
        assert all(each.wait(120) != 0 for each in senders)
        grown = peak_megabytes(hospital.node.process.pid) - before
        print(f"\n4 objects of 400 MB refused, {grown:.0f} MB more memory")
        assert grown < 300
        assert hospital.node.of("refused") or not list((tmp_path / "node" / "objects").iterdir())
        hospital.sent(hospital.send(2, multiframe=True))
