"""Configuration of a PACS node: a YAML file as typed values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from anymri.errors import ConfigurationError
from anymri.modalities import MODALITIES, find_modality
from anymri.training.fields import read_yaml, validated

FIELDS = "all fields with their meaning: anymri pacs example"
ResultKind = Literal["segmentation", "labelmap", "report"]


def _ae_title(text: str) -> str:
    if not text.strip() or len(text) > 16 or "\\" in text or not (text.isascii() and text.isprintable()):
        raise ValueError("an AE title has 1 to 16 characters of ASCII, without backslash")
    return text.strip()


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("a URL of DICOMweb begins with http:// or https://")
    return text.rstrip("/")


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError("not an IP address of this machine, such as 127.0.0.1; use 0.0.0.0 for all") from error


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError("not an IP address or network, such as 10.0.0.7 or 10.0.0.0/24") from error


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TLS(_Fields):
    """Files for TLS in PEM format.

    certificate  certificate of this node, with those of its chain
    key          its private key
    authorities  certificates that the certificate of the other side must come from; a server that has them demands a
                 certificate of its clients
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Caller(_Fields):
    """A program that may send studies.

    ae_title  its AE title
    address   address of its host, or a network in CIDR notation
    priority  studies with a higher number are segmented first
    """

    ae_title: AETitle
    address: Annotated[str, AfterValidator(_network)] = "127.0.0.1"
    priority: int = Field(default=0, ge=-100, le=100)


class Receive(_Fields):
    """Reception of studies by C-STORE.

    ae_title  AE title of the node, by which it must be called
    host      address to listen on; by default this machine only
    callers   programs that may send; all others are refused
    tls       files for TLS; without them the connection is not encrypted
    """

    ae_title: AETitle = "ANYMRI"
    host: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    port: Port = 11112
    callers: tuple[Caller, ...] = Field(min_length=1)
    tls: TLS | None = None

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.tls is not None and self.tls.certificate is None:
            raise ValueError("TLS of the receiver needs certificate and key")
        return self


class Web(_Fields):
    """A DICOMweb service.

    url            address of the service, as http://127.0.0.1:8042/dicom-web
    user           name for basic authentication
    password_file  file whose first line is the password
    tls            files for TLS, where the service wants a client certificate or has authorities of its own
    """

    url: Annotated[str, AfterValidator(_url)]
    user: str | None = None
    password_file: Path | None = None
    tls: TLS | None = None

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        return self


class Poll(Web):
    """A rule by which studies are fetched from a DICOMweb service.

    query          attributes of QIDO-RS that a study must match: keyword -> value, with * as wildcard
    days           only studies of the last days, today included, by StudyDate; null: of any date
    every_seconds  time between two searches
    most           largest number of studies in one search
    priority       as in `Caller`
    """

    query: dict[str, str] = Field(default_factory=lambda: {"ModalitiesInStudy": "MR"})
    days: int | None = Field(default=2, ge=1)
    every_seconds: float = Field(default=60, gt=0)
    most: int = Field(default=100, ge=1, le=10_000)
    priority: int = Field(default=0, ge=-100, le=100)


class Destination(_Fields):
    """A program that gets the results: by C-STORE if it has an AE title, by STOW-RS if it has a service.

    name      name in messages
    ae_title  AE title of the archive, with its host and port
    tls       files for TLS of the C-STORE
    web       DICOMweb service of the archive
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    ae_title: AETitle | None = None
    host: str | None = None
    port: Port | None = None
    tls: TLS | None = None
    web: Web | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        store = (self.ae_title, self.host, self.port)
        if not (all(store) if self.web is None else not any((*store, self.tls))):
            raise ValueError("a destination has either ae_title, host and port, or web")
        return self


class Limits(_Fields):
    """Limits of what the node takes; what is beyond them is refused, and the sender receives a DICOM status.

    associations             associations at a time
    idle_seconds             time without data after which an association is ended
    objects_per_association  objects in one association
    bytes_per_object         bytes of an object
    bytes_in_flight          bytes of objects that are being received at a time, which are in memory
    bytes_per_study          bytes of a study on disk
    bytes_on_disk            bytes of all studies on disk
    studies_waiting          studies that wait for segmentation
    """

    associations: int = Field(default=10, ge=1, le=200)
    idle_seconds: float = Field(default=60, gt=0)
    objects_per_association: int = Field(default=20_000, ge=1)
    bytes_per_object: int = Field(default=500_000_000, ge=1000)
    bytes_in_flight: int = Field(default=1_000_000_000, ge=1000)
    bytes_per_study: int = Field(default=5_000_000_000, ge=1000)
    bytes_on_disk: int = Field(default=100_000_000_000, ge=1000)
    studies_waiting: int = Field(default=500, ge=1)


class Retry(_Fields):
    """Rule of repetition after failures that may pass: a full disk, a process that died, an archive that is down.

    tries          tries of a segmentation; a full disk does not count, and results are sent until they have arrived
    first_seconds  time before the second try, which doubles with each further one
    most_seconds   largest time between two tries
    """

    tries: int = Field(default=3, ge=1)
    first_seconds: float = Field(default=5, gt=0)
    most_seconds: float = Field(default=600, gt=0)

    def pause(self, tries: int) -> float:
        """Return the seconds to wait after a number of tries, at least one."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(tries - 1, 30))


class Segmentation(_Fields):
    """Settings of the segmentation.

    weights      weights file, run folder or name of installed weights; by default the best installed for all subsets
    device       auto, cpu, cuda, cuda:1
    lane         how the network is computed, see docs/performance.md
    brain        method that finds the brain, see docs/raw-scans.md
    smallest_ml  tumours below this volume in millilitres are removed; the largest stays
    series       modality -> regular expression that the description of its series must match, for studies with
                 several series of one modality
    """

    weights: Path | None = None
    device: str = "auto"
    lane: str = "torch"
    brain: str = "auto"
    smallest_ml: float = Field(default=0.0, ge=0)
    series: dict[str, str] = Field(default_factory=dict)

    @field_validator("series")
    @classmethod
    def _check_series(cls, patterns: Mapping[str, str]) -> dict[str, str]:
        import re

        checked = {}
        for name, pattern in patterns.items():
            modality = find_modality(name)
            if modality is None:
                raise ValueError(f"there is no modality {name!r}; known: {', '.join(MODALITIES)}")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
            checked[modality] = pattern
        return checked


class NodeConfiguration(_Fields):
    """All settings of a node.

    folder            folder of the node: received objects, results and the queue; only one node at a time uses it
    receive           reception by C-STORE; null: nothing is received
    poll              rules of DICOMweb services
    send              destinations, each of which gets all results
    results           what is sent: the segmentation (SEG), the same as label map (LABELMAP SEG), the report (SR)
    quiet_seconds     time without a new object after which a study is segmented
    complete_seconds  the same for a study that has all four modalities
    keep_days         time after which finished studies and their results are removed from `folder`
    metrics_port      port of 127.0.0.1 for metrics in the text format of Prometheus; null: none
    """

    folder: Path
    receive: Receive | None = None
    poll: tuple[Poll, ...] = ()
    send: tuple[Destination, ...] = Field(min_length=1)
    results: tuple[ResultKind, ...] = Field(default=("segmentation", "report"), min_length=1)
    segmentation: Segmentation = Segmentation()
    quiet_seconds: float = Field(default=60, ge=0)
    complete_seconds: float = Field(default=10, ge=0)
    keep_days: float = Field(default=14, gt=0)
    metrics_port: Port | None = None
    limits: Limits = Limits()
    retry: Retry = Retry()

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        names = [each.name for each in self.send]
        if len(set(names)) < len(names):
            raise ValueError("two destinations of `send` have one name")
        if self.receive is None and not self.poll:
            raise ValueError("the node needs `receive` or `poll`, or it gets no studies")
        if any(rule.days is not None and rule.days >= self.keep_days for rule in self.poll):
            raise ValueError("`keep_days` must be more than the days of every rule of `poll`, or studies come back")
        return self


def read_configuration(file: Path) -> NodeConfiguration:
    """Return the configuration in a YAML file, with its paths relative to the folder of the file.

    Raises `ConfigurationError` that names each field that does not fit, or a file that does not exist.
    """
    configuration = validated(NodeConfiguration, read_yaml(file, FIELDS), str(file), fields=FIELDS)
    values = _absolute(configuration.model_dump(), file.absolute().parent)
    found: NodeConfiguration = NodeConfiguration.model_validate(values)
    for path in _named_files(values):
        if not path.is_file():
            raise ConfigurationError(f"{file} names the file {path}, which does not exist.", "Correct the path.")
    return found


def _absolute(value: Any, folder: Path, key: str = "") -> Any:
    """Return values with paths joined to a folder; names of installed weights stay."""
    if isinstance(value, Mapping):
        return {name: _absolute(each, folder, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_absolute(each, folder) for each in value)
    if isinstance(value, Path) and (key != "weights" or (folder / value).exists()):
        return folder / value
    return value


def _named_files(value: Any, key: str = "") -> list[Path]:
    if isinstance(value, Mapping):
        return [path for name, each in value.items() for path in _named_files(each, name)]
    if isinstance(value, tuple):
        return [path for each in value for path in _named_files(each)]
    return [value] if isinstance(value, Path) and key not in ("folder", "weights") else []
