"""Connections to other programs: TLS from files, and clients of DICOMweb."""

from __future__ import annotations

import logging
import ssl
from importlib import import_module
from typing import TYPE_CHECKING

from anymri.errors import ConfigurationError
from anymri.files import TextError, read_text
from anymri.pacs.configuration import TLS, Web

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

_SECONDS_OF_A_REQUEST = 60


def import_libraries() -> None:
    """Import pynetdicom and dicomweb-client, and silence their logs, which quote what was received.

    Threads must not do it: two that import pydicom at once fail by its circular imports.
    """
    for name in ("pydicom", "pynetdicom", "dicomweb_client.session_utils"):
        import_module(name)
    from pynetdicom import _config

    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "dicomweb_client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def server_context(files: TLS) -> ssl.SSLContext:
    """Return the TLS context of a server; raise `ConfigurationError` if a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if files.authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return _loaded(context, files)


def client_context(files: TLS) -> ssl.SSLContext:
    """Return the TLS context of a client; raise `ConfigurationError` if a file cannot be used."""
    context = ssl.create_default_context()
    return _loaded(context, files)


def _loaded(context: ssl.SSLContext, files: TLS) -> ssl.SSLContext:
    try:
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
        if files.authorities is not None:
            context.load_verify_locations(files.authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The files of TLS ({files.certificate}, {files.key}, {files.authorities}) cannot be used: {error}.",
            "Give certificates and key in PEM format, and a key without passphrase.",
        ) from error
    return context


def web_client(web: Web) -> DICOMwebClient:
    """Return a client of a DICOMweb service, which is not contacted yet."""
    from dicomweb_client import DICOMwebClient
    from dicomweb_client.session_utils import create_session

    session = create_session()
    if web.user is not None and web.password_file is not None:
        try:
            session.auth = (web.user, read_text(web.password_file).splitlines()[0])
        except (OSError, TextError, IndexError) as error:
            raise ConfigurationError(
                f"The password file {web.password_file} cannot be read.", "Write the password as its first line."
            ) from error
    if web.tls is not None:
        if web.tls.authorities is not None:
            session.verify = str(web.tls.authorities)
        if web.tls.certificate is not None:
            session.cert = (str(web.tls.certificate), str(web.tls.key))
    client = DICOMwebClient(web.url, session=session, timeout=_SECONDS_OF_A_REQUEST)
    client.set_http_retry_params(retry=False)  # the node has a rule of its own
    return client
