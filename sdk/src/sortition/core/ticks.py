"""The grid on which outcomes are counted: the same for who reports them and who judges them."""

TICK_SECONDS = 5
"""Ticks end when the unix time is a multiple of this: what ended in (t - 5, t] is of tick t."""

REPORTED_WITHIN = 0.7
"""Of a tick's length: each process reports at a moment of its own within this after the tick's end.

Sooner, and the reports of a fleet crowd what else a server has to do; later, and judging waits.
"""
