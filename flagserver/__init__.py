"""The flag server."""
