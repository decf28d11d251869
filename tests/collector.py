"""A stand-in for an OpenTelemetry collector: it takes OTLP over HTTP on loopback, or does not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATH = "/v1/traces"
MEDIA_TYPE = "application/x-protobuf"


@dataclass(frozen=True)
class Received:
    """A span as it came. ids in hex; parent "" where there is none."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was received. hangs: requests are taken, and never answered while it is set."""

    port: int
    spans: list[Received] = field(default_factory=list)
    requests: int = 0
    hangs: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Received]:
        return [span for span in list(self.spans) if span.name == name]

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            told = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans.extend(_received(span, told["service.name"]) for span in scope.spans)


def _received(span: Any, service: str) -> Received:
    attributes = {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return Received(*ids, span.name, service, attributes)


@contextmanager
def a_collector() -> Iterator[Collector]:
    """Run one, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 20

        def do_POST(self) -> None:
            collector.requests += 1
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.hangs.is_set():
                collector.free.wait(20)
                return
            if self.path != PATH or self.headers["Content-Type"] != MEDIA_TYPE:
                self.send_error(404)
                return
            if self.headers.get("Content-Encoding") == "gzip":
                octets = gzip.decompress(octets)
            collector.take(ExportTraceServiceRequest.FromString(octets))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(server.server_address[1])
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield collector
        finally:
            collector.free.set()
            server.shutdown()
            serving.join(5)
