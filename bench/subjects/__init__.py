"""What is measured, as cases: name -> a function that returns statement and names.

statement: what an application writes for each request `i`.  names: what it uses.  exposed: an
expression that is True when `i` is exposed, or None.  version: of what is measured.
Each file is run by the Python of the environment it is about, and imports nothing of ours.
"""
