"""Reception by C-STORE and C-ECHO, from allowed programs and within limits."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anymri.errors import ConfigurationError
from anymri.pacs.configuration import Caller, Limits, Receive
from anymri.pacs.connections import Connection, InFlight, TLSConnection
from anymri.pacs.intake import NOT_AUTHORISED, OUT_OF_RESOURCES, SUCCESS, Intake, Refused
from anymri.pacs.peers import import_libraries, server_context

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

# Encodings that anymri reads; deflated objects are not among them, whose size is not known before.
_ENCODINGS = (
    "1.2.840.10008.1.2.1",  # explicit VR little endian
    "1.2.840.10008.1.2",  # implicit VR little endian
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.70",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
)
# Connections beyond the associations that are rejected by DICOM; further ones are closed at once.
_SPARE_CONNECTIONS = 20
# Connections that the operating system keeps until they are accepted.
_WAITING_CONNECTIONS = 64


class Receiver:
    """A DICOM server on one address, which passes objects to an intake."""

    def __init__(self, settings: Receive, limits: Limits, intake: Intake) -> None:
        self._settings, self._limits, self._intake = settings, limits, intake
        self._networks = [(each, ipaddress.ip_network(each.address)) for each in settings.callers]
        self._in_flight = InFlight(limits.bytes_in_flight)
        self._tls: ssl.SSLContext | None = None
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> None:
        """Begin to listen; raise `ConfigurationError` if the address cannot be used or TLS files are wrong."""
        import_libraries()
        from pynetdicom import AE, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import Verification

        settings, limits = self._settings, self._limits
        if settings.tls is not None:
            self._tls = server_context(settings.tls)
            self._tls.sslsocket_class = TLSConnection
        entity: ApplicationEntity = AE(ae_title=settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = sorted({each.ae_title for each in settings.callers})
        entity.maximum_associations = limits.associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = limits.idle_seconds
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, list(_ENCODINGS))
        handlers = [
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_C_STORE, self._stored),
        ]
        server_class, handler_class = _classes(self)
        try:
            self._server = entity.make_server(
                (settings.host, settings.port),
                evt_handlers=handlers,
                server_class=server_class,
                request_handler=handler_class,
            )
        except OSError as error:
            raise ConfigurationError(
                f"The node cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.",
                "Choose a free port and an address of this machine: receive.host and receive.port.",
            ) from error
        threading.Thread(target=self._server.serve_forever, name="anymri-pacs-receiver", daemon=True).start()

    def stop(self) -> None:
        """Stop to listen, and end the associations."""
        if self._server is None:
            return
        for association in self._server.active_associations:
            association.abort()
        with suppress(ValueError):  # it is not in the list of the entity
            self._server.shutdown()

    def allows_address(self, address: str) -> bool:
        """Return whether any caller may connect from an address, and there are not too many connections."""
        found = _parsed(address)
        if not any(found in network for _, network in self._networks):
            self._refuse("address", f"A connection from {address} was closed, which is no address of a caller.")
            return False
        if self._in_flight.connections >= self._limits.associations + _SPARE_CONNECTIONS:
            self._refuse("connections", "A connection was closed, because there are too many.")
            return False
        return True

    def guarded(self, accepted: socket.socket) -> Connection | None:
        """Return a connection with the limits of the node; None, and it is closed, if its TLS does not fit."""
        limits = self._in_flight, self._limits.bytes_per_object, self._limits.idle_seconds
        if self._tls is None:
            connection = Connection(fileno=accepted.detach())
            connection.limit(*limits)
            return connection
        accepted.settimeout(self._limits.idle_seconds)
        self._in_flight.connect(1)
        try:
            secured = self._tls.wrap_socket(accepted, server_side=True)
            assert isinstance(secured, TLSConnection)
            secured.limit(*limits)
            return secured
        except OSError:  # those of TLS are among them
            self._refuse("tls", "A connection was closed, because its TLS does not fit.")
            accepted.close()
            return None
        finally:
            self._in_flight.connect(-1)

    def _caller(self, association: Any) -> Caller | None:
        title, address = association.requestor.ae_title.strip(), association.requestor.address
        found = _parsed(address)
        return next((each for each, network in self._networks if each.ae_title == title and found in network), None)

    def _established(self, event: Event) -> None:
        connection = _connection_of(event)
        if self._caller(event.assoc) is None:
            self._refuse("caller", "An association was ended, because its AE title may not call from its address.")
            event.assoc.abort()
        elif connection is not None:
            connection.establish()

    def _rejected(self, event: Event) -> None:
        self._refuse("association", "An association was rejected: a wrong AE title, or too many associations.")

    def _stored(self, event: Event) -> int:
        caller, connection = self._caller(event.assoc), _connection_of(event)
        if caller is None:
            return NOT_AUTHORISED
        if connection is not None:
            connection.objects += 1
            if connection.objects > self._limits.objects_per_association:
                self._refuse("objects", "An association has reached objects_per_association.")
                return OUT_OF_RESOURCES
        from pynetdicom.dsutils import encode_file_meta

        head = b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta)
        content = event.request.DataSet.getbuffer()
        try:
            refused = self._intake.take(head, content, str(event.request.AffectedSOPInstanceUID), caller.priority)
        finally:
            content.release()
            if connection is not None:
                connection.finish()
        return SUCCESS if refused is None else refused.status

    def _refuse(self, reason: str, sentence: str) -> None:
        self._intake.refuse(Refused(NOT_AUTHORISED, reason, sentence))


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address of a peer; one of IPv4 that a socket of IPv6 sees is one of IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def _connection_of(event: Event) -> Connection | None:
    transport = event.assoc.dul.socket
    found = None if transport is None else transport.socket
    return found if isinstance(found, Connection) else None


def _classes(guard: Receiver) -> tuple[Any, Any]:
    """Return the classes of a server, and of the handlers of its connections, that a receiver guards."""
    from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

    def handle(handler: Any) -> None:
        # In the thread of the connection, so that a slow handshake of TLS does not block the others.
        connection = guard.guarded(handler.request)
        if connection is not None:
            handler.request = connection
            RequestHandler.handle(handler)

    def verify_request(server: Any, request: Any, client_address: Any) -> bool:
        return guard.allows_address(client_address[0])

    def handle_error(server: Any, request: Any, client_address: Any) -> None:
        """Ignore an error of one connection, which is closed."""

    changes = {"verify_request": verify_request, "handle_error": handle_error}
    settings = {"daemon_threads": True, "request_queue_size": _WAITING_CONNECTIONS}
    server = type("Server", (ThreadedAssociationServer,), {**changes, **settings})
    return server, type("Handler", (RequestHandler,), {"handle": handle})
