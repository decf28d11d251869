"""`drill`: a rollback that is made to happen on purpose where it may, and the proof of it.

A drill starts a rollout of its own, whose canary is then said to fail: numbers of a metric that
only drills use, posted as any service posts its own. So everything behind it is the real thing:
sources, guards, the rollback, the notices. With --alarm an alarm of CloudWatch is fired instead, by
whoever runs the command and with his own credentials; or by hand, with the command that --print
says.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from . import completion, exits, options
from . import rollout_words as words
from .alarms import Alarm
from .api import Api, Failure
from .output import JsonCommand, clean, note, say, table
from .rollouts.following import seconds_of
from .rollouts.group import ROLLOUTS

METRIC = "sortition.drill"
PERIOD_SECONDS = 60
POST_SECONDS = 10.0
POLL_SECONDS = 1.5

FIRE_SECONDS = 5.0
"""CloudWatch puts an alarm back as soon as it looks at its metric, which may be within seconds: it
is fired again until the rollout has seen it."""

FAILING, ALL = 500, 1000
"""Of so many requests of the drill's canary so many fail."""

GONE = frozenset({"rolled_back", "completed", "superseded"})


@click.command("drill", cls=JsonCommand)
@options.environment(required=True, help="Where; refused in a critical one.")
@click.option(
    "--flag",
    required=True,
    metavar="KEY",
    shell_complete=completion.flags,
    help="The flag to move; in no other rollout. It is at 0 % before and after.",
)
@click.option("--service", required=True, help="Whose rollout it is.")
@click.option("--share", default=5.0, show_default=True, help="How much is exposed meanwhile.")
@click.option(
    "--alarm",
    metavar="NAME",
    help="Fire this CloudWatch alarm instead of failing a canary, with your own AWS credentials.",
)
@click.option(
    "--print",
    "by_hand",
    is_flag=True,
    help="With --alarm: print the command that fires it, and wait until somebody has.",
)
@click.option(
    "--timeout",
    "seconds",
    metavar="DURATION",
    callback=seconds_of,
    default="15m",
    show_default=True,
    help="How long it may take in all.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the proof into this file, as JSON.",
)
@click.option("--reason", help="Why; it stands in the record.")
@click.pass_context
def drill(context: click.Context, /, environment: str, seconds: float, **given: Any) -> None:
    """Make a rollback happen on purpose, and keep the proof: time to detect, to restore, who was
    told.

    Starts a rollout of the flag, lets its canary fail, and waits for it to take itself back. Ends
    with 0 when it did and somebody was told, else with 9; then the rollout is taken back by hand.

    With --alarm it fires that alarm, which the rollout watches, and puts it back when it is over.
    """
    if given["by_hand"] and given["alarm"] is None:
        raise click.UsageError("--print goes with --alarm.")
    api = options.api(context)
    if api.get(f"/api/v1/environments/{environment}")["critical"]:
        raise Failure(
            f"{environment} is critical: nothing is made to fail there on purpose.",
            exits.CONFLICT,
            code="conflict",
        )
    fires = given["alarm"] is not None and not given["by_hand"]
    # Looked for first: nothing is begun for an alarm that cannot be fired.
    alarm = Alarm(given["alarm"]) if fires else None
    until = api.monotonic() + seconds
    run = Run(api, environment, until, lambda text: note(context, text), alarm)
    proof = run.drill(given)
    _keep(given["out"], proof)
    _print(context, proof)
    if not proof["passed"]:
        context.exit(exits.CHECK_FAILED)


class Run:
    """One drill. until: of `Api.monotonic`, when it has taken too long. alarm: what is fired, None:
    a canary fails, or somebody fires an alarm by hand."""

    def __init__(
        self,
        api: Api,
        environment: str,
        until: float,
        tell: Callable[[str], None],
        alarm: Alarm | None = None,
    ) -> None:
        self._api = api
        self._environment = environment
        self._until = until
        self._tell = tell
        self._alarm = alarm

    def drill(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Carry it out; return the proof. Whatever goes wrong, the rollout is taken back."""
        version = f"drill-{secrets.token_hex(4)}"
        id = self._start(given, version)
        try:
            self._wait(id, self._is_exposed, 0.0, lambda: None)
            reason = {"reason": given["reason"]} if given["reason"] else {}
            self._api.send("POST", f"{ROLLOUTS}/{id}/drill", reason)
            self._tell(f"{id}: made to fail; it is to take itself back")
            every, act = self._harm(given, id)
            try:
                self._wait(id, _is_over, every, act)
            finally:
                self._put_back(id)
            proof = self._told(id)
        finally:
            self._take_back(id)
        return proof

    def _harm(self, given: Mapping[str, Any], id: str) -> tuple[float, Callable[[], None]]:
        """Return what makes the rollout fail, and how often it is done, in seconds; 0: never."""
        alarm = self._alarm
        if alarm is not None:
            return FIRE_SECONDS, lambda: alarm.fire(_why(id))
        if given["alarm"] is None:
            return POST_SECONDS, lambda: self._fail(given["service"])
        self._tell(f"Set the alarm now:\n  {_by_hand(given['alarm'])}")
        return 0.0, lambda: None

    def _put_back(self, id: str) -> None:
        """Leave no alarm behind that we fired."""
        if self._alarm is None:
            return
        try:
            self._alarm.put_back("The drill is over.", _why(id))
        except Failure as failure:
            self._tell(f"{self._alarm.name} may still be in ALARM: {failure.message}")

    def _start(self, given: Mapping[str, Any], version: str) -> str:
        guard = {
            "name": "drill",
            "signal": {"source": "metrics", "measure": "rate", "settings": {"metric": METRIC}},
            "limit": 0.01,
            "period": PERIOD_SECONDS,
        }
        alarm = given["alarm"]
        body = {
            "environment": self._environment,
            "service": given["service"],
            "version": version,
            # Held for longer than the drill may take: it ends by going back, and in no other way.
            "schedule": {
                "steps": [{"share": given["share"]}],
                "bake": "1d",
                "end": given["share"],
            },
            "targets": [{"kind": "flag", "name": given["flag"]}],
            "guards": [guard] if alarm is None else "none",
            "alarms": [] if alarm is None else [alarm],
            "reason": given["reason"] or "A drill.",
        }
        started, _ = self._api.send("POST", ROLLOUTS, body)
        self._tell(f"{started['id']}: {given['flag']} at {given['share']:g} % for a drill")
        return str(started["id"])

    def _fail(self, service: str) -> None:
        """Post what a failing canary counts, and of the stable side nothing: where there is nothing
        to compare with, the limit alone decides."""
        body = {
            "environment": self._environment,
            "points": [
                {
                    "metric": METRIC,
                    "source": "drill",
                    "service": service,
                    "cohort": "canary",
                    "numerator": FAILING,
                    "denominator": ALL,
                }
            ],
        }
        self._api.send("POST", "/api/v1/metrics", body)

    def _wait(
        self,
        id: str,
        is_so: Callable[[Mapping[str, Any]], bool],
        every: float,
        act: Callable[[], None],
    ) -> None:
        """Wait until a rollout is as is wanted, doing something so often until it goes back; or
        until the time is up."""
        due = self._api.monotonic()
        while self._api.monotonic() < self._until:
            it = self._api.get(f"{ROLLOUTS}/{id}")
            if is_so(it):
                return
            if every and it["rollback"] is None and self._api.monotonic() >= due:
                act()
                due += every
            self._api.sleep(POLL_SECONDS)

    @staticmethod
    def _is_exposed(it: Mapping[str, Any]) -> bool:
        if it["terminal"]:
            message = f"{it['id']} ended before anything was made to fail: {words.reason(it)}"
            raise Failure(message, exits.CHECK_FAILED, code="drill_failed")
        return bool(it["step"]) and words.is_settled(it)

    def _told(self, id: str) -> dict[str, Any]:
        """Return the proof, once somebody was told that it is over or the time is up."""
        until = min(self._until, self._api.monotonic() + 60.0)
        while True:
            proof: dict[str, Any] = self._api.get(f"{ROLLOUTS}/{id}/drill")
            if proof["passed"] or proof["state"] != "rolled_back":
                return proof
            if self._api.monotonic() >= until:
                return proof
            self._api.sleep(POLL_SECONDS)

    def _take_back(self, id: str) -> None:
        """Leave nothing exposed behind."""
        try:
            if not self._api.get(f"{ROLLOUTS}/{id}")["terminal"]:
                body = {"reason": "The drill is over."}
                self._api.send("POST", f"{ROLLOUTS}/{id}/rollback", body)
                self._tell(f"{id}: taken back by hand")
        except Failure as failure:
            self._tell(f"{id} may still expose somebody: {failure.message}")


def _is_over(it: Mapping[str, Any]) -> bool:
    return bool(it["terminal"])


def _why(id: str) -> str:
    return f"A drill of Sortition, {id}."


def _by_hand(alarm: str) -> str:
    quoted = "'" + alarm.replace("'", "'\\''") + "'"
    return (
        f"aws cloudwatch set-alarm-state --alarm-name {quoted} --state-value ALARM "
        "--state-reason 'A drill.'"
    )


def _keep(out: Path | None, proof: Mapping[str, Any]) -> None:
    if out is None:
        return
    try:
        out.write_text(json.dumps(proof, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"--out: {error}", exits.USAGE, code="bad_file") from None


def _print(context: click.Context, proof: Mapping[str, Any]) -> None:
    say(context, {"kind": "drill", **proof})
    if context.find_root().params.get("as_json"):
        return
    mark = "✔" if proof["passed"] else "✖"
    click.echo(f"{mark} {proof['rollout']} in {proof['environment']}: {clean(_came_to(proof))}")
    rows = [
        ["began", proof["began"], ""],
        ["detected", proof["detected"] or "–", _after(proof["seconds_to_detect"])],
        ["restored", proof["restored"] or "–", _after(proof["seconds_to_restore"])],
    ]
    say(context, {}, table("", "At", "After>", rows=rows))
    told = [
        [each["at"], each["kind"], ", ".join(each["notifiers"]) or "nobody yet"]
        for each in proof["told"]
    ]
    say(context, {}, table("Told", "Of", "Who", rows=told))


def _came_to(proof: Mapping[str, Any]) -> str:
    if proof["passed"]:
        return f"it took itself back. {proof['reason']}"
    if proof["state"] == "rolled_back" and not proof["guard"]:
        return "it was taken back, but not by itself."
    if proof["state"] == "rolled_back":
        return "it took itself back, but nobody was told: the server's own log is nobody."
    return f"it did not take itself back in time; it is {proof['state'].replace('_', ' ')}."


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s"
