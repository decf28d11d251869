"""Where things are kept: the Redis driver, and a store of our own."""
