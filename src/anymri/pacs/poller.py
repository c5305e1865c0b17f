"""Rules by which studies are fetched from a DICOMweb service: QIDO-RS finds them, WADO-RS brings them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from anymri.pacs.configuration import Poll
from anymri.pacs.database import Database
from anymri.pacs.intake import OUT_OF_RESOURCES, Intake, Report
from anymri.pacs.peers import web_client
from anymri.text import shortened

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom.dataset import Dataset

# Attributes of DICOM JSON.
_STUDY, _SERIES, _MODALITY, _OBJECTS = "0020000D", "0020000E", "00080060", "00201209"
# Objects in any encoding, as they are stored.
_AS_STORED = (("application/dicom", "*"),)


class Poller:
    """One rule: each call searches once, and fetches the series of which objects are missing here.

    searches  number of searches so far
    """

    def __init__(self, rule: Poll, database: Database, intake: Intake, report: Report) -> None:
        self._rule, self._database, self._intake, self._report = rule, database, intake, report
        # A series whose number of objects does not grow is fetched once, even if some of them are no MR images.
        self._fetched: dict[str, int] = {}
        self.searches = 0

    def poll(self) -> bool:
        """Fetch what is new, and return false; a service that is down is reported, and searched again later."""
        try:
            client = web_client(self._rule)
            for study in self._studies(client):
                for series, count in self._missing(client, study):
                    if not self._fetch(client, study, series):
                        return False
                    self._fetched[series] = count
        except Exception as error:  # noqa: BLE001 (requests and services raise nearly every class there is)
            text = f"{self._rule.url} cannot be searched: {shortened(f'{type(error).__name__}: {error}', 300)}"
            self._report("unreachable", text=text)
        finally:
            self.searches += 1
        return False

    def _studies(self, client: DICOMwebClient) -> list[str]:
        filters = dict(self._rule.query)
        if self._rule.days is not None:
            first = datetime.date.today() - datetime.timedelta(days=self._rule.days - 1)
            filters["StudyDate"] = f"{first:%Y%m%d}-"
        found = client.search_for_studies(search_filters=filters, limit=self._rule.most)
        return [uid for each in found if (uid := _value(each, _STUDY))]

    def _missing(self, client: DICOMwebClient, study: str) -> Iterator[tuple[str, int]]:
        """Yield the MR series that have more objects than are here, with their number of objects."""
        for each in client.search_for_series(study, search_filters={"Modality": "MR"}, fields=[_OBJECTS]):
            series, count = _value(each, _SERIES), int(_value(each, _OBJECTS) or 0)
            if not series or _value(each, _MODALITY) != "MR" or self._fetched.get(series) == count:
                continue
            here = self._database.number("SELECT count(*) FROM objects WHERE study = ? AND series = ?", study, series)
            if count == 0 or here < count:
                yield series, count

    def _fetch(self, client: DICOMwebClient, study: str, series: str) -> bool:
        """Fetch a series, and return whether the node could take it."""
        for each in client.iter_series(study, series, media_types=_AS_STORED):
            head, content = _encoded(each)
            refused = self._intake.take(head, content, None, self._rule.priority)
            if refused is not None and refused.status == OUT_OF_RESOURCES and refused.reason != "size":
                return False
        return True


def _value(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _encoded(dataset: Dataset) -> tuple[bytes, bytes]:
    """Return a dataset as the beginning of a file and the rest of it."""
    import io

    from anymri.prepare.dicom.headers import quiet

    stream = io.BytesIO()
    with quiet():
        dataset.save_as(stream)
    return b"", stream.getvalue()
