"""Whatever is typed into a form, or into an address, is answered: never with an error of ours."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import hypothesis
import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import admin
from admin.guard import csrf_token
from flagserver.auth.passwords import Argon2Passwords
from flagserver.domain.commands import NewToken
from flagserver.domain.people import NewPerson
from tests.slices import everything

from .house import ANA, OUR_PAGE, House, Visitor
from .rolling import RollingHouse

EXAMPLES = 60 if everything() else 4
"""Of each address."""

TEMPLATES = Path(admin.__file__).parent / "templates"

GOOD = {
    "reason": "a test",
    "revision": "1",
    "seen": "1",
    "confirm_environment": "production",
    "environment": "production",
    "env": "production",
    "share": "25",
    "weight:on": "100",
    "attribute:0": "cloud.region",
    "operator:0": "in",
    "values:0": "eu-west-1",
    "flag:0": "checkout",
    "variant:0": "on",
    "key": "another",
    "name": "Ben",
    "login": "ben",
    "password": "correct horse battery",
    "again": "correct horse battery",
    "old": "correct horse battery",
    "variants": '{"a": 1, "b": 2}',
    "rest": "a",
    "kind": "temporary",
    "role": "editor",
    "role:production": "viewer",
    "scope": "sdk",
    "expires": "2030-01-01",
    "hours": "24",
    "schedule": "5%:5m,100%",
    "guards": "none",
    "service": "shop",
    "flags": "checkout",
    "to": "2026-11-23",
    "from": "2026-11-01",
    "change": "share",
    "theme": "dark",
    "back": "/flags",
    "days": "7",
    "page": "2",
    "mark": "false",
    "once": "1",
}
"""A field -> something that a form takes in it. Other fields of templates get what is below."""

STRANGE = [
    *("", " ", "0", "-1", "1e999", "NaN", "100.00001", "9" * 400, "٣", "²", "on", "true", "null"),
    *("[]", "{}", "{" * 500, '{"a": NaN}', '{"a": 1, "a": 2}', '"', "\\", "%", "%00", "\0", "\r\n"),
    *("../../etc/passwd", "//elsewhere.example", "javascript:alert(1)", "<script>", "{{ 7*7 }}"),
    *("person@example.org", "2026-99-99", "0000-00-00", "99999999999999999999-01-01T00:00:00Z"),
    *("5%:5m", "5%:5m,5%", "100%:999999999999h", "\ud800", "\U0010ffff" * 50, "x" * 5000, "c" * 43),
]

FIELDS = sorted(
    {
        name
        for template in TEMPLATES.rglob("*.html")
        for name in re.findall(r'name="([\w.:-]+)"', template.read_text())
    }
    - {"csrf"}
    | {*GOOD, "before"}
)

THINGS = {
    "key": ["checkout", "in-rollout", "production", "nobodys"],
    "environment": ["production", "staging"],
    "name": ["careful", "log", "nobodys"],
    "verb": ["begin", "resume", "advance", "approve"],
    "seq": ["0", "1", "3", "9" * 20, "9" * 400],
    "path": ["how-to/start-a-rollout", "../settings", "nothing"],
}
"""A part of a path -> what may stand there; `id` and the rest are filled in below."""

typed = st.sampled_from(STRANGE) | st.text(max_size=40)


@st.composite
def forms(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Return the fields of a form: a good one, with some of it changed, left out or said twice."""
    changed = draw(st.dictionaries(st.sampled_from(FIELDS), st.none() | typed, max_size=6))
    twice = draw(st.lists(st.tuples(st.sampled_from(FIELDS), typed), max_size=2))
    at = draw(st.integers(0, 4))
    fields = {**GOOD, "revision": str(at), "key": f"another-{at}", "login": f"ben-{at}", **changed}
    return [*((name, text) for name, text in fields.items() if text is not None), *twice]


def encoded(fields: list[tuple[str, str]]) -> str:
    # As a browser sends it, but for half surrogates, which only a program sends.
    return urlencode([(name, text.encode("utf-8", "surrogatepass")) for name, text in fields])


@st.composite
def requests(draw: st.DrawFn, path: str, things: dict[str, list[str]]) -> tuple[str, str]:
    """Return (an address, a form), both as octets go over the wire."""

    def filled(part: re.Match[str]) -> str:
        # Mostly a strange name leads nowhere, and hides what is behind it.
        strange = draw(st.integers(0, 4)) == 4
        text = draw(typed if strange else st.sampled_from(things.get(part[1], ["nobodys"])))
        return quote(text.encode("utf-8", "surrogatepass"), safe="")

    return re.sub(r"<(?:[^:>]+:)?(\w+)>", filled, path), encoded(draw(forms()))


@dataclass
class Scene:
    """A house with something of everything in it, and who looks at it."""

    house: RollingHouse
    things: dict[str, list[str]]
    visitor: Visitor
    secret: str = ""

    def sign_in(self) -> None:
        """Begin a session, for what is tried may have ended the last one."""
        self.visitor = self.house.visitor()
        cookie = self.visitor.client.get_cookie("sortition_session")
        assert cookie is not None
        self.secret = cookie.value

    def ask(self, method: str, address: str, form: str) -> tuple[int, str]:
        """Return status and text of an answer."""
        client, csrf = self.visitor.client, csrf_token(self.secret)
        if method == "GET":
            answer = client.get(f"{address}?{form}")
        else:
            answer = client.post(
                address,
                data=f"{form}&csrf={csrf}",
                content_type="application/x-www-form-urlencoded",
                headers=OUR_PAGE,
            )
        return answer.status_code, answer.get_data(as_text=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    house = RollingHouse(disk=tmp_path_factory.mktemp("disk"))
    services = house.services
    # What is typed is tried often, and not for how long that takes.
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    services.people._passwords = Argon2Passwords(cheap)
    for key in ("checkout", "in-rollout", "fast-search"):
        house.flag(key)
    moved = [{"kind": "flag", "name": "in-rollout"}]
    rollout = house.start(targets=moved, service="shop", version=None, guards="none")
    person = services.people.invite(NewPerson(name="Ana", login="ana"), ANA).view.person.id
    token = services.tokens.create(NewToken(scope="sdk", environment="production"), ANA).token.id
    made = Scene(house, THINGS | {"id": [rollout, person, token]}, house.visitor())
    made.sign_in()
    return made


def addresses() -> list[tuple[str, str]]:
    """Return every (method, path as it is declared) of the pages, but the stream."""
    return sorted(
        (method, rule.rule)
        for rule in House().app.url_map.iter_rules()
        if rule.endpoint.startswith("admin.") and rule.endpoint != "admin.events"
        for method in ("GET", "POST")
        if method in (rule.methods or ())
    )


CALM = hypothesis.settings(
    max_examples=EXAMPLES,
    suppress_health_check=[*HealthCheck],
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@pytest.mark.parametrize(
    ("method", "path"), [pytest.param(*each, id=" ".join(each)) for each in addresses()]
)
def test_whatever_is_typed_is_answered(scene: Scene, method: str, path: str) -> None:
    answered = Counter[int]()

    @CALM
    @given(requests(path, scene.things))
    def ask(request: tuple[str, str]) -> None:
        status, text = scene.ask(method, *request)
        if status == 401 or path == "/sign-out":
            scene.sign_in()
        assert status < 500, f"{request}: {text[-2000:]}"
        answered[status] += 1

    ask()
    # That a form is of another session would say nothing of what is in it.
    assert answered[403] < answered.total(), answered
