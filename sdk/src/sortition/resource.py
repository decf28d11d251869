"""Where this code runs, in OpenTelemetry resource attributes, as the environment tells it."""

from __future__ import annotations

import os
from collections.abc import Mapping

UNKNOWN_SERVICE = "unknown_service"

ECS_URI = "ECS_CONTAINER_METADATA_URI_V4"
"""The variable by which ECS tells a container where to ask about its task."""


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the attributes of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, which wins.

    Values are percent-decoded (W3C Baggage), and pairs without a `=` are left out.
    """
    found = {"service.name": UNKNOWN_SERVICE}
    given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if given:
        found.update(_pairs(given))
    if environ.get("OTEL_SERVICE_NAME"):
        found["service.name"] = environ["OTEL_SERVICE_NAME"]
    return found


def completed(known: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Return what is known, and what was found of the rest; an unknown service is none."""
    said = {
        name: value
        for name, value in known.items()
        if (name, value) != ("service.name", UNKNOWN_SERVICE) or name not in found
    }
    return {**found, **said}


def _pairs(text: str) -> dict[str, str]:
    from urllib.parse import unquote  # noqa: PLC0415 (`import sortition` stays light)

    pairs = (pair.partition("=") for pair in text.split(","))
    return {
        unquote(name.strip()): unquote(value.strip())
        for name, sign, value in pairs
        if sign and name.strip()
    }
