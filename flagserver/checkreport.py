"""What `flagserver aws check` asks, what it found, and the same for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

AS_ASSUMED, OTHERWISE, NOTED = "as assumed", "otherwise", "noted"
NOT_FOUND_OUT = "not found out"

QUESTIONS: Mapping[str, tuple[str, str]] = {
    "weight": (
        "What does the load balancer say to a weight of 1000?",
        "It refuses; 999 is the most.",
    ),
    "expressions": (
        "Does CloudWatch take the standard alarms' metric math, and what state are they in?",
        "It takes all; none fires without traffic.",
    ),
    "appspec": (
        "Does CodeDeploy tell an AppSpec's content again?",
        "A deployment tells its digest only; the revision of that digest has the content.",
    ),
    "one": (
        "What of a second deployment of a group while one runs?",
        "DeploymentLimitExceededException.",
    ),
    "statuses": (
        "Which statuses does a deployment have that goes well?",
        "Created, Queued, InProgress, Baking, Ready; at the end Succeeded.",
    ),
    "lifecycle": (
        "Which lifecycle events does CodeDeploy tell of, in which order?",
        "Those of ECS as documented; AllowTraffic is one of them.",
    ),
    "weights": (
        "Is a task set's trafficWeight the share that the listener gives its group?",
        "At each look but one beside each shift.",
    ),
    "rules": (
        "Which rules of the production listener does CodeDeploy change?",
        "Each that forwards to the pair, the default one too; no other.",
    ),
    "idle": (
        "What becomes of the group that nobody is to reach?",
        "It stays in the rule, with weight 0.",
    ),
    "ended": (
        "What does a deployment that has succeeded say of weights?",
        "Nothing: it is not relied on.",
    ),
    "late": (
        "What of stopping a deployment that is over?",
        "DeploymentAlreadyCompletedException.",
    ),
    "alarm": (
        "What of an alarm that fires at the canary, and how soon?",
        "ALARM_ACTIVE, a rollback by a deployment of its own, and 0 % at the listener.",
    ),
    "labels": (
        "How are the task sets of a rollback deployment labelled?",
        "Nothing: it is not relied on.",
    ),
    "firing": (
        "What of a deployment that begins while its alarm fires?",
        "It is refused or ends without giving anybody the new version.",
    ),
}
"""Key -> the question, and what Sortition assumes."""

NOT_ASKED: Mapping[str, str] = {
    "Do clients with a cookie go on to a group of weight 0?": "needs requests through the balancer",
    "How long does a weight take from the API to the requests?": "needs requests through the "
    "balancer",
    "Which words do EventBridge's events of CodeDeploy have as their state?": "needs a rule and a "
    "queue",
    "Do PAUSE hooks of ECS's own deployments hold at each step?": "needs a service of ECS's own",
}
"""What stays open -> why it is not looked at here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out of one question. said: in whose words AWS put it."""

    key: str
    question: str
    assumed: str
    state: str
    found: str
    said: Any = None


@dataclass(slots=True)
class Report:
    """What a check found. ended: why it went no further, None when it went to its end; left: what
    could not be taken down; say: is told, in a line, what happens."""

    name: str
    account: str
    region: str
    began: float
    answers: dict[str, Answer] = field(default_factory=dict)
    ended: str | None = None
    left: list[str] = field(default_factory=list)
    say: Callable[[str], None] = lambda _: None

    @property
    def well(self) -> bool:
        """Tell whether it went to its end and left nothing; the answers may be what they are."""
        return self.ended is None and not self.left

    def all(self) -> list[Answer]:
        """Return an answer to each question, in their order."""
        return [
            self.answers.get(key) or Answer(key, *words, NOT_FOUND_OUT, "")
            for key, words in QUESTIONS.items()
        ]

    def answer(self, key: str, as_assumed: bool | None, found: str, said: Any = None) -> None:
        """Write an answer down. as_assumed: None where nothing is."""
        state = NOTED if as_assumed is None else AS_ASSUMED if as_assumed else OTHERWISE
        self.answers[key] = Answer(key, *QUESTIONS[key], state, found, said)
        self.say(f"{QUESTIONS[key][0]} {found} ({state})")


def as_json(report: Report) -> str:
    """Return a report as one JSON object."""
    told = {
        "name": report.name,
        "account": report.account,
        "region": report.region,
        "began": report.began,
        "ok": report.well,
        "ended": report.ended,
        "left": report.left,
        "answers": [asdict(each) for each in report.all()],
        "not_asked": NOT_ASKED,
    }
    return json.dumps(told, indent=2, default=str)


def as_markdown(report: Report) -> str:
    """Return a report for people."""
    lines = [
        f"# What AWS did: {report.name}, account {report.account}, {report.region}",
        "",
        *([f"It went no further: {report.ended}", ""] if report.ended else []),
        "| question | assumed | | found |",
        "|---|---|---|---|",
    ]
    for each in report.all():
        cells = (each.question, each.assumed, each.state, each.found)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    lines += ["", "Not looked at:", ""]
    lines += [f"- {question} It {why}." for question, why in NOT_ASKED.items()]
    lines += ["", *(["Left behind:", ""] if report.left else ["Everything was taken down."])]
    lines += [f"- {each}" for each in report.left]
    return "\n".join(lines) + "\n"
