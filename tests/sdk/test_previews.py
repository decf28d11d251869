"""A colleague sees a feature before anyone else: by a signed link, uncounted."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import sortition
from sortition import asgi, wsgi
from sortition.errors import ConfigurationError
from sortition.previews import NAME, Previews
from sortition.record import preview
from sortition.record.note import NoteError, SigningKey
from sortition.record.preview import Preview
from sortition.testing import client_with
from werkzeug.test import Client as Browser

from tests import loops

KEY = SigningKey("flags.example/preview", b"k" * 32)
OTHER = SigningKey("flags.example/preview", b"o" * 32)
PUBLIC = str(KEY.verifier)
SOON = 3600


def a_text(
    key: SigningKey = KEY, *, seconds: float = SOON, environment: str = "testing", **variants: str
) -> str:
    """Return the text of a preview; without variants it shows `search`."""
    shown = variants or {"search": "on"}
    made = Preview("0" * 16, environment, int(time.time() + seconds), shown)
    return preview.write(made, key)


@pytest.fixture
def client() -> sortition.Client:
    return client_with({"search": 0, "cart": 0})


def served(client: sortition.Client, path: str = "/", **headers: str) -> Any:
    """Return what a host behind the WSGI middleware answers: whether `search` and `cart` are on."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = wsgi.current(environ)
        start_response("200 OK", [])
        return [f"{request.is_enabled('search')} {request.is_enabled('cart')}".encode()]

    host = wsgi.Middleware(app, client, preview=PUBLIC)
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return Browser(host, use_cookies=False).get(path, headers=given, buffered=True)


def reported(client: sortition.Client) -> list[Any]:
    client._outcomes.collect(client._held.assignments())
    return client._outcomes.take()


# --- through the middlewares ----------------------------------------------------------------------


def test_a_link_shows_the_variant_and_is_kept_in_a_cookie(client: sortition.Client) -> None:
    text = a_text()

    linked = served(client, f"/?{NAME}={text}&q=x")

    assert linked.text == "True False"
    cookie = linked.headers["Set-Cookie"]
    assert cookie.startswith(f"{NAME}={text}; Max-Age=3")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert linked.headers["Cache-Control"] == "private, no-store"
    again = served(client, Cookie=f"theme=dark; {NAME}={text}")
    assert again.text == "True False"
    assert "Set-Cookie" not in again.headers


def test_a_revoked_link_shows_nothing_and_others_go_on(client: sortition.Client) -> None:
    held = client._held.now.snapshot()
    assert held is not None
    version = replace(held.version, version=held.version.version + 1)
    text = a_text()
    other = preview.write(Preview("f" * 16, "testing", 2**33, {"search": "on"}), KEY)
    assert served(client, X_Sortition_Preview=text).text == "True False"

    client._held.put(replace(held, version=version, revoked_previews=("0" * 16,)))

    assert client.revoked_previews == ("0" * 16,)
    for way in ({"path": f"/?{NAME}={text}"}, {"X_Sortition_Preview": text}):
        assert served(client, **way).text == "False False"
    assert served(client, X_Sortition_Preview=other).text == "True False"


def test_a_header_shows_it_too(client: sortition.Client) -> None:
    assert served(client, X_Sortition_Preview=a_text()).text == "True False"


def test_it_counts_nowhere(client: sortition.Client) -> None:
    served(client, X_Sortition_Preview=a_text())
    assert reported(client) == []

    served(client)
    assert reported(client)[0]["service"]["requests"] == 1


def test_everybody_else_sees_what_they_saw(client: sortition.Client) -> None:
    plain = served(client)

    assert plain.text == "False False"
    assert "Cache-Control" not in plain.headers


@pytest.mark.parametrize(
    "text",
    [
        a_text(OTHER),
        a_text(seconds=-1),
        a_text(environment="production"),
        a_text()[:-8],
        a_text() + "A",
        a_text(search="blue"),
        "x",
        "!" * 50,
        "A" * 5000,
        "é",
    ],
    ids=["forged", "over", "elsewhere", "cut", "longer", "no variant", "x", "signs", "long", "odd"],
)
def test_what_is_no_good_preview_changes_nothing(client: sortition.Client, text: str) -> None:
    assert served(client, f"/?{NAME}={text}").text == "False False"
    assert served(client, Cookie=f"{NAME}={text}").text == "False False"


def test_killing_the_flag_ends_its_previews() -> None:
    client = client_with({"search": {"share": 50, "killed": True}, "cart": 0})

    assert served(client, X_Sortition_Preview=a_text()).text == "False False"


def test_where_its_code_may_not_run_a_flag_is_not_shown() -> None:
    condition = {"attribute": "service.version", "operator": "in", "values": ["9"]}
    client = client_with({"search": {"share": 50, "conditions": [condition]}, "cart": 0})

    assert served(client, X_Sortition_Preview=a_text()).text == "False False"


def test_a_preview_that_was_read_is_over_when_its_time_is(
    client: sortition.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, text, now = Previews(PUBLIC, secure=False), a_text(), time.time()
    assert finder.find(lambda _: text, "", "testing") is not None

    monkeypatch.setattr(time, "time", lambda: now + SOON + 1)

    assert finder.find(lambda _: text, "", "testing") is None


def test_a_flood_of_forged_ones_takes_no_memory(client: sortition.Client) -> None:
    finder = Previews(PUBLIC, secure=False)
    for number in range(600):
        finder.find(lambda _: "", f"{NAME}=forged{number}", "testing")

    assert len(finder._known) <= 256


def test_asgi_does_the_same(client: sortition.Client) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        enabled = asgi.current(scope).is_enabled("search")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(enabled).encode()})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    host = asgi.Middleware(app, client, preview=PUBLIC)
    scope = {"type": "http", "headers": [], "query_string": f"{NAME}={a_text()}".encode()}
    loops.run(host(scope, receive, send))

    assert sent[1]["body"] == b"True"
    assert [name for name, _ in sent[0]["headers"]] == [b"cache-control", b"set-cookie"]
    assert reported(client) == []


@pytest.mark.parametrize("key", ["", "flags.example", "PRIVATE+KEY+x+y+z"])
def test_a_key_that_is_none_is_named_at_once(client: sortition.Client, key: str) -> None:
    with pytest.raises(ConfigurationError, match="preview"):
        wsgi.Middleware(lambda *_: [], client, preview=key)


def test_who_gives_no_key_imports_nothing_of_it() -> None:
    program = (
        "import sys, sortition, sortition.wsgi, sortition.asgi\n"
        "from sortition.testing import client_with\n"
        "client = client_with({})\n"
        "sortition.wsgi.Middleware(lambda *_: [], client)\n"
        "print([m for m in sys.modules if 'preview' in m or m.startswith('cryptography')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# --- the text -------------------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    made = Preview("0a" * 8, "production", 2_000_000_000, {"a": "on", "b.c": "dense"})

    assert preview.read(preview.write(made, KEY), [KEY.verifier], 1_999_999_999.0) == made


@pytest.mark.parametrize(
    "made",
    [
        Preview("0" * 16, "production", 1, {}),
        Preview("0" * 16, "production\nx", 1, {"a": "on"}),
        Preview("0" * 16, "production", 1, {"a": "on\nb=on"}),
        Preview("nobody", "production", 1, {"a": "on"}),
        Preview("0" * 16, "production", 1, {f"f{i}": "on" for i in range(21)}),
    ],
)
def test_what_cannot_be_read_is_not_written(made: Preview) -> None:
    with pytest.raises(NoteError):
        preview.write(made, KEY)
