"""What pages cost a server with a thousand flags, and a browser at a first load."""

from __future__ import annotations

import gzip
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flask.testing import FlaskClient

import admin
from bench.harness.report import Options, Row, at_most, run, say
from flagserver.bootstrap import INSTALLATION, build_services, prepare
from flagserver.domain.commands import NewFlag, StateEdit
from flagserver.domain.outcomes import Row as Reported
from flagserver.http.app import create_app
from flagserver.http.streams import Hub
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.storage.embedded import EmbeddedStore
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy

FLAGS = 1000
EMPTY = "/nowhere"
"""A page with the frame and three lines in it; whoever sees it is signed in."""

LIST = "/flags"
PAGES = {
    LIST: "the list of flags",
    "/flags?q=flag-07": "a search in it",
    "/flags?state=ramping&sort=changed": "those that ramp, the last change first",
    "/flags/flag-0007": "a flag",
    "/audit": "the record",
}
"""Address -> what it is; the list has a bar, the others stand beside it."""

WEIGHED = {LIST: "list_kb", "/flags/flag-0007": "flag_kb", "/audit": "audit_kb", "/help": "help_kb"}
SIGNED_OUT = {"Sec-Fetch-Site": "same-origin"}


def measure(options: Options) -> Iterator[Row]:
    """Ask for each page in turns with the empty one, in one process over a store of its own."""
    rounds = options.of(quick=5, whole=200)
    with furnished(options.of(quick=100, whole=FLAGS)) as client:
        for path in (EMPTY, *PAGES):
            client.get(path)
        say(f"{rounds} rounds of {len(PAGES)} pages, each after an empty one")
        took: dict[str, list[float]] = {path: [] for path in (EMPTY, *PAGES)}
        ratios: dict[str, list[float]] = {path: [] for path in PAGES}
        for _ in range(rounds):
            for path in PAGES:
                empty, full = _seconds(client, EMPTY), _seconds(client, path)
                took[EMPTY].append(empty)
                took[path].append(full)
                ratios[path].append(full / empty)
        yield Row("empty_ms", "an empty page, signed in", _each(took[EMPTY]), "ms")
        for path, what in PAGES.items():
            name = re.sub(r"\W+", "_", path).strip("_")
            bar = at_most(3.0) if path == LIST else None
            note = f"{_each(took[path]):.1f} ms"
            whole = f"{what}, over an empty page"
            yield Row(f"{name}_ratio", whole, _middle(ratios[path]), "x", bar, note)
        for path, name in WEIGHED.items():
            kilobytes, files = _weight(client, path)
            what = f"{path} at a first load, gzipped"
            yield Row(name, what, kilobytes, "kB", at_most(60.0), f"{files} files besides the page")


@contextmanager
def furnished(flags: int) -> Iterator[FlaskClient]:
    """Serve so many flags, fifty of them reported; give a client that has signed in."""
    with tempfile.TemporaryDirectory() as place:
        embedded = EmbeddedStore(Path(place))
        embedded.start(20.0)
        try:
            settings = Settings(data_dir=Path(place))
            store = RedisStore(embedded.url)
            services = build_services(settings, store)
            prepare(settings, store, services, SystemEntropy())
            _furnish(services, store, flags)
            services.snapshots.load()
            app = create_app(services, settings)
            pages = admin.blueprint(services, secure_cookies=False, say=Hub().say)
            app.register_blueprint(pages)
            client = app.test_client()
            client.post(f"/sign-in/{services.sessions.make_link()}", headers=SIGNED_OUT)
            yield client
        finally:
            embedded.stop(5.0)


def _furnish(services: Services, store: RedisStore, flags: int) -> None:
    at = int(time.time()) // 60 * 60
    rows: list[Reported] = []
    for number in range(flags):
        key = f"flag-{number:04}"
        team = f"team-{number % 7}"
        flag = NewFlag(key=key, description=f"What {team} tries", owner=team)
        services.flags.create(flag, INSTALLATION)
        if number % 3 == 0:
            edit = StateEdit(share=25.0, reason="a bench", confirm_environment="production")
            services.flags.change(key, "production", edit, 0, INSTALLATION)
        if number < 50:
            rows += [Reported(f"flag/{key}", v, at, 100, 100, 1, {60: 100}) for v in ("on", "off")]
    about = {"service.name": "shop", "service.version": "1", "instance": "5b0b", "seen": at}
    store.add("production", "5b0b:1", 1, rows, about)


def _seconds(client: FlaskClient, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    took = time.perf_counter() - began
    assert answer.status_code == (404 if path == EMPTY else 200), f"{path}: {answer.status}"
    return took


def _weight(client: FlaskClient, path: str) -> tuple[float, int]:
    """Return the kilobytes of a page with all that it loads, gzipped, and how many files."""
    page = client.get(path).get_data()
    found = set(re.findall(rb'(?:src|href)="(/assets/[^"]+)"', page))
    packed = {"Accept-Encoding": "gzip"}
    files = [client.get(name.decode(), headers=packed).get_data() for name in found]
    return (len(gzip.compress(page)) + sum(map(len, files))) / 1000, len(files)


def _each(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds)


def _middle(ratios: list[float]) -> float:
    return statistics.median(ratios)


if __name__ == "__main__":
    run(
        measure,
        title="Pages",
        method="An application with the pages over the embedded store, 1,000 flags in three "
        "environments, a third of them ramping, 50 of them reported; in one process without a "
        "network, each page in turns with an empty one of the same frame; medians of wall time.",
        distributions=["flask", "jinja2", "redis"],
    )
