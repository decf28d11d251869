"""Views by noun. Each module's `routes` lists its addresses."""
