"""Delivery of results by C-STORE or STOW-RS, until each destination has them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.pacs import places
from anymri.pacs.configuration import Destination, NodeConfiguration
from anymri.pacs.database import Database
from anymri.pacs.intake import Report
from anymri.pacs.peers import client_context, import_libraries, web_client
from anymri.pacs.work import result_files
from anymri.text import count, shortened

if TYPE_CHECKING:
    from sqlite3 import Row

    from pydicom.dataset import Dataset

_SECONDS_OF_AN_ANSWER = 60
# Warnings of C-STORE: the object is stored, with some elements changed or left out.
_WARNINGS = range(0xB000, 0xC000)


class DeliveryError(Exception):
    """A delivery that did not arrive; the message is the reason as a sentence."""


class Sender:
    """Deliveries of a node."""

    def __init__(self, configuration: NodeConfiguration, database: Database, report: Report) -> None:
        self._configuration, self._database, self._report = configuration, database, report
        self._destinations = {each.name: each for each in configuration.send}

    def send_due(self) -> int:
        """Send what is due, and return the number of deliveries that arrived.

        A destination that fails is not tried again for its other deliveries before the first one is due again.
        """
        arrived, down = 0, set[str]()
        for row in self._due():
            destination = self._destinations.get(row["destination"])
            if destination is None or destination.name in down:
                continue
            try:
                send(destination, self._files(row), self._calling)
            except DeliveryError as error:
                down.add(destination.name)
                self._failed(row, str(error))
            else:
                self._arrived(row)
                arrived += 1
        return arrived

    @property
    def _calling(self) -> str:
        receive = self._configuration.receive
        return "ANYMRI" if receive is None else receive.ae_title

    def _due(self) -> list[Row]:
        return self._database.rows(
            "SELECT deliveries.*, study, content, weights FROM deliveries JOIN jobs ON jobs.id = job "
            "WHERE sent IS NULL AND deliveries.due <= ? ORDER BY priority DESC, job",
            time.time(),
        )

    def _files(self, row: Row) -> list[Path]:
        folder = places.result_folder(self._configuration.folder, row["study"], row["content"], row["weights"])
        return result_files(folder)

    def _arrived(self, row: Row) -> None:
        with self._database.transaction() as change:
            change.execute(
                "UPDATE deliveries SET sent = ?, what = NULL WHERE job = ? AND destination = ?",
                (time.time(), row["job"], row["destination"]),
            )
            change.execute(
                "UPDATE jobs SET state = 'sent' WHERE id = ?1 "
                "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE job = ?1 AND sent IS NULL)",
                (row["job"],),
            )
        self._report("sent", study=row["study"], destination=row["destination"])

    def _failed(self, row: Row, reason: str) -> None:
        tries = row["tries"] + 1
        pause = self._configuration.retry.pause(tries)
        with self._database.transaction() as change:
            change.execute(
                "UPDATE deliveries SET tries = ?, due = ?, what = ? WHERE job = ? AND destination = ?",
                (tries, time.time() + pause, reason, row["job"], row["destination"]),
            )
            # The other results for it wait as long, so that a dead archive is not called for each of them.
            change.execute(
                "UPDATE deliveries SET due = max(due, ?) WHERE destination = ? AND sent IS NULL",
                (time.time() + pause, row["destination"]),
            )
        self._report("undelivered", study=row["study"], destination=row["destination"], text=reason, seconds=pause)


def send(destination: Destination, files: Sequence[Path], calling: str) -> None:
    """Send DICOM files to a destination; raise `DeliveryError` unless all of them arrived.

    calling  AE title of this node

    An archive that has an object already takes it as the same one, because a result has the same UIDs each time.
    """
    from pydicom import dcmread

    from anymri.prepare.dicom.headers import quiet

    try:
        with quiet():
            datasets = [dcmread(file) for file in files]
    except OSError as error:
        raise DeliveryError(f"The results cannot be read: {error.strerror or error}.") from error
    if not datasets:
        raise DeliveryError("The results are not on disk any more.")
    try:
        if destination.web is None:
            _store(destination, datasets, calling)
        else:
            _stow(destination, datasets)
    except DeliveryError:
        raise
    except Exception as error:
        reason = shortened(f"{type(error).__name__}: {error}", 300)
        raise DeliveryError(f"{destination.name} did not take the results: {reason}.") from error


def echo(destination: Destination, calling: str) -> None:
    """Raise `DeliveryError` unless a destination answers: to C-ECHO, or to a search for one study."""
    import_libraries()
    if destination.web is not None:
        try:
            web_client(destination.web).search_for_studies(limit=1)
        except Exception as error:
            raise DeliveryError(f"{destination.name} does not answer: {shortened(str(error), 300)}.") from error
        return
    association = _associated(destination, calling, [("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])])
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if status.get("Status") != 0:
        raise DeliveryError(f"{destination.name} did not answer to C-ECHO.")


def _associated(destination: Destination, calling: str, contexts: Sequence[tuple[str, list[str]]]) -> Any:
    from pynetdicom import AE

    entity = AE(ae_title=calling)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = _SECONDS_OF_AN_ANSWER
    entity.network_timeout = _SECONDS_OF_AN_ANSWER
    for sop_class, encodings in dict(contexts).items():
        entity.add_requested_context(sop_class, encodings)
    tls = None if destination.tls is None else (client_context(destination.tls), destination.host)
    association = entity.associate(
        destination.host, destination.port, ae_title=destination.ae_title or "", tls_args=tls
    )
    if not association.is_established:
        why = "refused the association" if association.is_rejected else "cannot be reached"
        raise DeliveryError(f"{destination.name} ({destination.host}:{destination.port}) {why}.")
    return association


def _store(destination: Destination, datasets: Sequence[Dataset], calling: str) -> None:
    contexts = [(each.SOPClassUID, [each.file_meta.TransferSyntaxUID]) for each in datasets]
    association = _associated(destination, calling, contexts)
    try:
        for each in datasets:
            try:
                answer = association.send_c_store(each)
            except ValueError as error:  # its class was not accepted
                name = each.SOPClassUID.name
                raise DeliveryError(f"{destination.name} does not take objects of the class {name}.") from error
            if "Status" not in answer:
                raise DeliveryError(f"{destination.name} ended the association before it had the results.")
            if answer.Status != 0 and answer.Status not in _WARNINGS:
                raise DeliveryError(f"{destination.name} refused a result with the status 0x{answer.Status:04X}.")
    finally:
        if association.is_established:
            association.release()


def _stow(destination: Destination, datasets: Sequence[Dataset]) -> None:
    assert destination.web is not None
    answer = web_client(destination.web).store_instances(datasets)
    if refused := answer.get("FailedSOPSequence"):
        reason = refused[0].get("FailureReason", 0)
        raise DeliveryError(
            f"{destination.name} refused {count(len(refused), 'result')} with the reason 0x{reason:04X}."
        )
