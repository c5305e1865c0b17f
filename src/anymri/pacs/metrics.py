"""Metrics of a node in the text format of Prometheus, served on this machine only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from anymri.errors import ConfigurationError
from anymri.pacs.database import Database
from anymri.pacs.intake import Intake

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(database: Database, intake: Intake, started: float) -> str:
    """Return all metrics of a node that began at a time.

    started  seconds since 1970
    """
    seconds, number = database.rows("SELECT coalesce(sum(seconds), 0), count(seconds) FROM jobs")[0]
    counts, refused = dict(intake.counts), "refused "
    lines = [
        *_metric("up_seconds", "gauge", "Time since the start.", {"": time.time() - started}),
        *_metric("studies", "gauge", "Studies by state.", _labelled("state", database.counts())),
        *_metric(
            "objects_total",
            "counter",
            "Objects since the start, by what was done with them.",
            _labelled("outcome", {name: counts.get(name, 0) for name in ("taken", "repeated", "ignored")}),
        ),
        *_metric(
            "refused_total",
            "counter",
            "Objects and connections that were refused since the start, by reason.",
            _labelled("reason", {n.removeprefix(refused): v for n, v in counts.items() if n.startswith(refused)}),
        ),
        *_metric("bytes_on_disk", "gauge", "Bytes of received objects.", {"": database.bytes_on_disk()}),
        *_metric(
            "deliveries_waiting",
            "gauge",
            "Results that a destination does not have yet.",
            {"": database.number("SELECT count(*) FROM deliveries WHERE sent IS NULL")},
        ),
        *_metric("segmentation_seconds_sum", "counter", "Time of all segmentations.", {"": seconds}),
        *_metric("segmentation_seconds_count", "counter", "Number of segmentations.", {"": number}),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, values: dict[str, float]) -> list[str]:
    full = f"anymri_pacs_{name}"
    return [f"# HELP {full} {text}", f"# TYPE {full} {kind}", *(f"{full}{label} {v}" for label, v in values.items())]


def _labelled(label: str, values: dict[str, int]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': value for name, value in values.items()}


class MetricsServer:
    """HTTP server on 127.0.0.1 with one page, /metrics."""

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        """Begin to listen; raise `ConfigurationError` if the port is taken."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                found = self.path == "/metrics"
                content = text().encode() if found else b"Only /metrics is here.\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", _TYPE)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Print nothing."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"The metrics cannot be served on 127.0.0.1:{port}: {error.strerror or error}.",
                "Choose a free port as metrics_port.",
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="anymri-pacs-metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()
