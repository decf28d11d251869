"""How things look and read: the one table of states, and how numbers and times are written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from markupsafe import Markup, escape
from sortition.core.bucketing import WHOLE

from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.environments import Environment
from flagserver.domain.flags import Flag, State

THIN = "\N{NARROW NO-BREAK SPACE}"
"""Stands between thousands, and between a number and its unit."""

NOTHING = "\N{EN DASH}"
"""Stands where there is no number."""


@dataclass(frozen=True, slots=True)
class Status:
    """A state in an icon, a word and the role of its colour; colour never speaks alone."""

    token: str
    icon: str
    word: str
    role: str


STATUSES = {
    status.token: status
    for status in (
        Status("off", "○", "Off", "neutral"),
        Status("ramping", "◐", "Ramping", "accent"),
        Status("on", "●", "On", "ok"),
        Status("killed", "✖", "Killed", "danger"),
        Status("archived", "□", "Archived", "neutral"),
        Status("unknown", "?", "Unknown", "neutral"),
    )
}
"""Every state a flag can be in. An unknown word never looks like something that works."""


def status(flag: Flag, state: State) -> Status:
    """Return how a flag stands in an environment."""
    if flag.archived:
        return STATUSES["archived"]
    return share_status(state.share, killed=state.killed)


def share_status(share: int, *, killed: bool) -> Status:
    """Return the status of a share (parts per million)."""
    if killed:
        return STATUSES["killed"]
    if share == 0:
        return STATUSES["off"]
    return STATUSES["on" if share == WHOLE else "ramping"]


def tone(environment: Environment) -> str:
    """Return which colours an environment's band has: `critical`, `rehearsal` or `workshop`."""
    if environment.critical:
        return "critical"
    return "rehearsal" if environment.key.startswith(("stag", "pre", "test")) else "workshop"


def plain_percent(ppm: int) -> str:
    """Return parts per million as a number of percent, without its sign: `0.0001`, `25`."""
    return f"{ppm_to_percent(ppm):.4f}".rstrip("0").rstrip(".")


def percent(ppm: int) -> str:
    """Return parts per million in percent, exactly: `0.0001 %`, `25 %`."""
    return plain_percent(ppm) + THIN + "%"


def measured(percents: float | None) -> str:
    """Return a measured percentage, to the digits that tell something: `24.9 %`, `0.33 %`."""
    if percents is None:
        return NOTHING
    if percents in (0, 100):
        return f"{percents:.0f}{THIN}%"
    if 99.9 < percents < 100:
        return f">{THIN}99.9{THIN}%"
    if percents < 0.01:
        return f"<{THIN}0.01{THIN}%"
    digits = 2 if percents < 10 else 1
    return f"{percents:.{digits}f}{THIN}%"


def ratio(part: int, whole: int) -> str:
    """Return a part of a whole in percent."""
    return measured(100 * part / whole) if whole else NOTHING


def count(number: int) -> str:
    """Return a number with its thousands apart: `18 402`."""
    return f"{number:,}".replace(",", THIN)


def rate(number: int, seconds: int) -> str:
    """Return how many per second: `0.4`, `12.3`, `1 204`."""
    if seconds <= 0:
        return NOTHING
    per_second = number / seconds
    return f"{per_second:.1f}" if per_second < 100 else count(round(per_second))


def seconds(value: float | None) -> str:
    """Return a latency: `8.2 ms`, `412 ms`, `1.05 s`."""
    if value is None:
        return NOTHING
    if math.isinf(value):
        return f">{THIN}1{THIN}min"
    milliseconds = value * 1000
    if milliseconds < 10:
        return f"{milliseconds:.1f}{THIN}ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}{THIN}ms"
    return f"{value:.2f}{THIN}s"


_SPANS = ((60, "s"), (3600, "min"), (86_400, "h"))
_UNITS = {"s": 1, "min": 60, "h": 3600}


def span(total: float) -> str:
    """Return how long something takes or took, in its largest unit: `40 s`, `2 h`, `94 days`."""
    whole = max(0, int(total))
    for limit, unit in _SPANS:
        if whole < limit:
            return f"{whole // _UNITS[unit]}{THIN}{unit}"
    days = whole // 86_400
    return f"{days}{THIN}{'day' if days == 1 else 'days'}"


def ago(instant: str | None, now: datetime) -> str:
    """Return how long ago an RFC 3339 instant was: `just now`, `4 min ago`."""
    if instant is None:
        return "never"
    passed = (now - datetime.fromisoformat(instant)).total_seconds()
    return "just now" if passed < 2 else f"{span(passed)} ago"


@lru_cache(maxsize=4096)
def exact(instant: str | None) -> str:
    """Return an RFC 3339 instant as people read it: `2026-11-23 08:15:30 UTC`."""
    if instant is None:
        return ""
    return datetime.fromisoformat(instant).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(unix: float) -> str:
    """Return unix seconds as people read them: `2026-11-23 08:15 UTC`."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")


def chance(share: int, draws: int) -> float | None:
    """Return by how many points a fair draw of a share (ppm) may miss it, 19 times in 20."""
    if draws == 0 or share in (0, WHOLE):
        return None
    part = share / WHOLE
    return 196 * math.sqrt(part * (1 - part) / draws)


def clock(total: float) -> str:
    """Return how much time is left as a clock shows it: `5:27`, `1:05:00`; of days, `8 d 23 h`."""
    whole = max(0, round(total))
    if whole >= 86_400:
        return f"{whole // 86_400}{THIN}d {whole // 3600 % 24}{THIN}h"
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def hold(total: float) -> str:
    """Return how long a step is held, to the second where that matters: `5 min`, `90 s`, `1 h`."""
    whole = round(total)
    for seconds, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole and whole % seconds == 0:
            return f"{whole // seconds}{THIN}{unit}"
    return f"{whole}{THIN}s" if whole < 120 else clock(whole)


def time(at: float | str | datetime | None) -> str:
    """Return the time of day of an instant (unix seconds, RFC 3339), UTC: `12:05:00`."""
    if at is None:
        return NOTHING
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if not isinstance(at, datetime):
        at = datetime.fromtimestamp(at, UTC)
    return at.strftime("%H:%M:%S")


def day_time(at: float, now: datetime) -> str:
    """Return an instant (unix seconds) as a time of day, UTC, with its date where that is another
    day: `12:05:00`, `7 Dec, 22:23`."""
    moment = datetime.fromtimestamp(at, UTC)
    if moment.date() == now.astimezone(UTC).date():
        return time(moment)
    year = "" if moment.year == now.astimezone(UTC).year else f" {moment.year}"
    return f"{moment.day} {moment:%b}{year}, {moment:%H:%M}"


_VERB = re.compile(r"^(?:ROLL BACK|HOLD) [^,:]*, ")
"""What follows and for which target: beside the state that says so, once too often."""

_ARN = re.compile(r"(?:(\w+)/)?(arn:aws[\w:/.-]*\w)")
_MANY_SECONDS = re.compile(r"\b(\d{3,}) s\b")


def readable(sentence: str) -> str:
    """Return a sentence with targets, verdicts and long times as people say them."""
    sentence = _MANY_SECONDS.sub(lambda found: hold(int(found[1])), sentence)
    said = _ARN.sub(lambda found: f"{found[1] or ''} {short(found[2])}".strip(), sentence)
    return _VERB.sub("", said).replace("not_enough_data", "not enough data")


def short(name: str) -> str:
    """Return the part of a long name that tells people something: of an ARN, what it names."""
    if not name.startswith("arn:"):
        return name if len(name) <= 40 else f"{name[:18]}…{name[-18:]}"
    kind, _, rest = name.rpartition(":")[2].partition("/")
    parts = [part for part in rest.split("/") if part]
    told = [part for part in parts if part != "app"][:1] or [kind]
    return f"{told[0]} …{parts[-1][-6:]}" if len(parts) > 1 else told[0]


@lru_cache(maxsize=4096)
def bar(share: int, reached: float | None = None, role: str = "accent") -> Markup:
    """Return a share as a bar, with a mark where it was reached. share: ppm; reached: percent."""
    mark = ""
    if reached and share:
        mark = f'<rect class="mark" x="{min(reached, 99.4):.2f}" width="0.6" height="8"/>'
    known = Markup(mark)  # noqa: S704 (numbers)
    return _BAR.format(role=role, width=plain_percent(share), mark=known)


@lru_cache(maxsize=256)
def pill(status: Status) -> Markup:
    """Return a state as an icon and a word."""
    return _PILL.format(role=status.role, icon=status.icon, word=status.word)


def when(instant: str | None, now: datetime) -> Markup:
    """Return an RFC 3339 instant as how long ago it was; the exact one on hover."""
    at = escape(instant or "")
    # By hand, for a list has many: what stands beside the instant is made of digits and words.
    made = f'<time datetime="{at}" title="{exact(instant)}">{ago(instant, now)}</time>'
    return Markup(made)  # noqa: S704 (as said above)


_BAR = Markup(
    '<svg class="bar {role}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" '
    'focusable="false"><rect class="track" width="100" height="8"/>'
    '<rect class="fill" width="{width}" height="8"/>{mark}</svg>'
)
_PILL = Markup(
    '<span class="pill {role}"><span class="icon" aria-hidden="true">{icon}</span> {word}</span>'
)
