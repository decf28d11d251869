"""Drivers of what has a weight outside of our store. One file for each engine; see ports."""
