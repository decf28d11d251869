"""The admin UI: server-rendered pages over the services."""
