"""The record: the form of its entries and how they hang together. Server and verifier share it."""
