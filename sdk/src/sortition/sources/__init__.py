"""Where snapshots come from: the server's stream or its polling, and files."""
