"""`python -m sortition.cli` is the `sortition` command."""

from . import main

main()
