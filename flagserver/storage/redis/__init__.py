"""The store's driver for Redis 7.0 or later, Valkey and Redis Cluster."""
