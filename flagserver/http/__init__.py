"""The HTTP API: JSON under /api/v1 and /ofrep/v1, errors as problem documents."""
