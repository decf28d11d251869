"""The store on Redis, Valkey, or a Cluster of either."""
