"""The lot, proven: points are uniform, flags are independent, and nothing but the id decides.

Anyone may run it, with or without our server: `sortition neutrality prove`. What would find an
unfair lot is itself tried on lots that are known to be unfair (`proof.CONTROLS`).
"""
