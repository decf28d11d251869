"""An AWS double on loopback: moto's server, and what moto lacks, in a process of its own.

    python -m examples.awsfake --port 8402                the double; see `__main__`
    python -m examples.awsfake.balancer --help            a load balancer that obeys it

The real boto3 talks to it over HTTP, as in production, with AWS_ENDPOINT_URL. It is stricter than
moto (`elbv2.REFUSED` and others: what AWS refuses is refused), it has a clock that can be turned,
it evaluates alarms, and it misbehaves when told to (`faults`). For tests and for `make demo`; it
knows nothing of Sortition.
"""
