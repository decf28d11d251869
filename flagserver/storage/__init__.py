"""Where things are kept: the driver for Redis, and a Redis of our own for whoever has none."""
