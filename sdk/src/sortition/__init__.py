"""Feature flags drawn by lot: what a service imports.

client = sortition.Client("https://flags.example", key="srt_sdk_...")
client.is_enabled("new-search", request_id)
"""

from __future__ import annotations

__version__ = "0.1.0"

from .client import Client, Status
from .core.evaluate import Evaluation
from .core.reasons import ErrorCode, Reason
from .errors import ConfigurationError, SortitionError

__all__ = [
    "Client",
    "ConfigurationError",
    "ErrorCode",
    "Evaluation",
    "Reason",
    "SortitionError",
    "Status",
    "__version__",
]
