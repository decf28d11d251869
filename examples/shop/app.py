"""A shop that asks its flags through the SDK's WSGI middleware.

    SORTITION_URL=http://127.0.0.1:8400 SORTITION_KEY=srt_sdk_… gunicorn examples.shop.app:app

`/search`, `/product` and `/checkout` are what it sells; `/` shows its own counters, which it keeps
itself and does not get from the server. Started by `side` it is one side of a blue/green pair, and
does what that side's file says.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import sortition
from flask import Flask, Response, jsonify, render_template_string
from flask import request as http_request
from sortition.wsgi import Middleware, current
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from .sides import ERRORS, HOSTS, SLOW, read_side

WINDOW_SECONDS = 10.0

LOOK_SECONDS = 0.5
"""How often a side looks at its file."""

BROKEN_SHARE = 0.3
BROKEN_SECONDS = 0.2
"""A version that is broken fails so many of its requests, and is so much slower."""

SLOW_SECONDS = 1.5
"""How long each request takes at a version that is slow."""


class Counters:
    """What this process served: in all, and within the last seconds."""

    def __init__(self) -> None:
        self.total: Counter[tuple[str, str]] = Counter()
        self._recent: deque[tuple[float, str, str]] = deque(maxlen=100_000)

    def add(self, flag: str, variant: str) -> None:
        """Count one request that was served a variant."""
        self.total[flag, variant] += 1
        self._recent.append((time.monotonic(), flag, variant))

    def recent(self, seconds: float) -> Counter[tuple[str, str]]:
        """Return what was served within the last seconds."""
        since = time.monotonic() - seconds
        return Counter((flag, variant) for at, flag, variant in list(self._recent) if at >= since)


class Orders:
    """What this process runs, and how that is broken, if it is: as the file of its side says.

    The file is looked at beside the requests, so none waits for a disk. When it names another
    version, this one ends, and whoever keeps it running starts that.
    """

    def __init__(self) -> None:
        self.side = os.environ.get("SHOP_SIDE", "")
        self.broken: str | None = None
        self._data = Path(os.environ.get("SHOP_DATA", "."))
        self.version = read_side(self._data, self.side)["version"] if self.side else ""
        if self.side:
            threading.Thread(target=self._follow, name="orders", daemon=True).start()

    def _follow(self) -> None:
        while True:
            told = read_side(self._data, self.side)
            self.broken = told["broken"] or None
            if told["version"] != self.version:
                os.kill(os.getppid(), signal.SIGTERM)  # gunicorn's master, which ends us too
                return
            time.sleep(LOOK_SECONDS)


client = sortition.Client()
counters = Counters()
orders = Orders()
app = Flask(__name__)


@app.before_request
def fail_if_broken() -> tuple[Response, int] | None:
    """Do what a broken version does; its counters go on being read."""
    if http_request.path in ("/", "/counters"):
        return None
    if orders.broken == SLOW:
        time.sleep(SLOW_SECONDS)
    if orders.broken != ERRORS:
        return None
    time.sleep(BROKEN_SECONDS)
    if random.random() >= BROKEN_SHARE:
        return None
    return jsonify(error="this version is broken"), 500


def ask(flag: str) -> str:
    """Return the variant of a flag for this request, and count it."""
    variant = current(http_request.environ).variant(flag) or "default"
    counters.add(flag, variant)
    return variant


@app.get("/search")
def search() -> Response:
    """The new ranking is a little slower and fails as rarely as the old one."""
    new = ask("new-search") == "on"
    time.sleep(random.uniform(0.004, 0.012) if new else random.uniform(0.002, 0.008))
    return jsonify(results=["boots", "lamp", "kettle"], ranking="new" if new else "old")


@app.get("/product")
def product() -> Response:
    """Three looks of a product page."""
    return jsonify(product="kettle", look=ask("product-look"))


@app.post("/checkout")
def checkout() -> tuple[Response, int]:
    """A checkout fails now and then, with the flag or without it."""
    ok = random.random() > 0.002
    current(http_request.environ).count("critical_path", ok=ok)
    flow = "express" if ask("express-checkout") == "on" else "classic"
    return jsonify(ok=ok, flow=flow), 200 if ok else 500


@app.get("/counters")
def read_counters() -> Response:
    """This process's own counters: `total` since its start, `recent` of the last 10 seconds, and
    `last_second`; each flag -> variant -> requests."""
    return jsonify(
        side=orders.side,
        version=orders.version,
        broken=orders.broken or False,
        total=_nested(counters.total),
        recent=_nested(counters.recent(WINDOW_SECONDS)),
        last_second=_nested(counters.recent(1.0)),
        status=client.status(),
    )


@app.get("/")
def page() -> str:
    """The counters as a page that renews itself."""
    rows = [
        (flag, variants, sum(variants.values()))
        for flag, variants in sorted(_nested(counters.recent(WINDOW_SECONDS)).items())
    ]
    return render_template_string(PAGE, rows=rows, orders=orders, status=client.status())


def _nested(counted: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, Any]] = {}
    for (flag, variant), count in sorted(counted.items()):
        nested.setdefault(flag, {})[variant] = count
    return nested


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<meta name="viewport" content="width=device-width"><title>The shop's own counters</title>
<style>
 :root { color-scheme: light dark }
 body { font: 16px/1.5 system-ui; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
 table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
 th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884 }
 td.n { text-align: right } meter { width: 12rem }
</style></head><body>
<h1>The shop{% if orders.side %} {{ orders.version }}{% endif %}</h1>
{% if orders.side %}<p><b style="border-left: .5rem solid {{ orders.side }}; padding-left: .5rem">
{{ orders.side }}</b>{% if orders.broken %} is broken: {{ orders.broken }}{% endif %}.
The load balancer chose it for this request; the next may meet the other side.</p>{% endif %}
<p>What this process served in the last 10 seconds, by its own count.</p>
<table><thead><tr><th>Flag</th><th>Variant</th><th>Part</th><th>Requests</th></tr></thead><tbody>
{% for flag, variants, all in rows %}{% for variant, n in variants.items() %}
<tr><td>{{ flag if loop.first }}</td><td>{{ variant }}</td>
<td><meter value="{{ n / all }}">{{ n }}</meter> {{ "%.1f" % (100 * n / all) }} %</td>
<td class="n">{{ n }}</td></tr>
{% endfor %}{% else %}<tr><td colspan="4">No requests yet.</td></tr>{% endfor %}
</tbody></table>
<p>SDK: {{ status.state }}{% if status.version %}, snapshot {{ status.version }}{% endif %}.</p>
</body></html>
"""


def health(environ: Any, start: Any) -> Any:
    """What a load balancer asks every other moment: no visitor's request, so it is not counted."""
    return Response(status=503 if orders.broken == HOSTS else 200)(environ, start)


# Whoever has a preview link sees its variant; without a key, none counts. Not `secure`: the demo
# speaks plain HTTP, on this machine.
served = Middleware(app.wsgi_app, client, preview=os.environ.get("SHOP_PREVIEW_KEY"), secure=False)
app.wsgi_app = DispatcherMiddleware(served, {"/health": health})  # type: ignore[method-assign]
