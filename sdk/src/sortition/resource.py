"""Where this code runs, in OpenTelemetry resource attributes, as the environment tells it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import unquote

UNKNOWN_SERVICE = "unknown_service"


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the attributes of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, which wins.

    Values are percent-decoded (W3C Baggage), and pairs without a `=` are left out.
    """
    found = {"service.name": UNKNOWN_SERVICE}
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, sign, value = pair.partition("=")
        if sign and name.strip():
            found[unquote(name.strip())] = unquote(value.strip())
    if environ.get("OTEL_SERVICE_NAME"):
        found["service.name"] = environ["OTEL_SERVICE_NAME"]
    return found
