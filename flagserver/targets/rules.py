"""Which rule a target of kind `alb` names, and what AWS says of rules: of one, or of a tick's many.

DescribeRules and DescribeListeners take lists, so that a region with 200 rules is known after ten
calls. AWS refuses a whole list for one entry that it does not know; its halves are asked for then,
until what is wrong stands alone and spoils no other.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from flagserver.aws import Arn, Aws, AwsError, AwsRefused, AwsThrottled, AwsUnknown, Permit
from flagserver.domain.errors import Invalid
from flagserver.domain.targets import Target

from .forwards import Action
from .owners import in_parts

SETTINGS = frozenset({"canary", "stable"})
GONE = frozenset({"RuleNotFound", "ListenerNotFound", "LoadBalancerNotFound"})

AT_ONCE = 20
"""How many rules or listeners one call asks for. Nothing is documented for these two lists; 20 is
the most of their siblings, load balancers in DescribeLoadBalancers, resources in DescribeTags
(botocore's model of elbv2 2015-12-01)."""

READ_SECONDS = 5.0
"""After so long no further call about a region begins: a tick."""

REGIONS_AT_ONCE = 8

OWN, DEFAULT = "rule", "default rule"
"""The two kinds, each with its own pair of operations."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A target as AWS has to be asked for it. rule: None for the listener's default rule."""

    region: str
    account: str
    listener: str
    rule: str | None
    canary: str
    stable: str

    @property
    def kind(self) -> str:
        """OWN or DEFAULT."""
        return DEFAULT if self.rule is None else OWN

    @property
    def arn(self) -> str:
        """What it is called at AWS: its own ARN, or its listener's."""
        return self.rule or self.listener


@dataclass(frozen=True, slots=True)
class Described:
    """What AWS says of one. is_default: of a rule, whether it is its listener's default rule."""

    actions: Sequence[Action]
    is_default: bool = False


Found = Described | AwsError
"""What became of asking for one rule."""


class Rules:
    """Reads and writes rules. Safe to use from any thread."""

    def __init__(self, aws: Aws, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._aws = aws
        self._monotonic = monotonic
        self._turns = itertools.count()

    def describe(self, rule: Rule) -> Described:
        """Return what AWS says of a rule. Raises AwsError, of a code in GONE when it is gone."""
        found = self._ask(rule.region, rule.kind, [rule.arn], math.inf)[rule.arn]
        if isinstance(found, AwsError):
            raise found
        return found

    def describe_all(self, rules: Collection[Rule]) -> Mapping[Rule, Found]:
        """Return what AWS says of each, the regions side by side. One fails without the others."""
        regions: dict[str, list[Rule]] = {}
        for rule in rules:
            regions.setdefault(rule.region, []).append(rule)
        if len(regions) <= 1:
            parts = [self._describe_region(*each) for each in regions.items()]
        else:
            with ThreadPoolExecutor(min(len(regions), REGIONS_AT_ONCE)) as pool:
                # In the caller's context each, so that a trace knows whose calls they are.
                asked = [
                    pool.submit(copy_context().run, self._describe_region, region, some)
                    for region, some in regions.items()
                ]
                parts = [each.result() for each in asked]
        found = dict(itertools.chain.from_iterable(part.items() for part in parts))
        return {rule: found[rule.arn] for rule in rules}

    def write(self, rule: Rule, actions: Sequence[Action], may: Permit) -> None:
        """Give a rule these actions, once. may: as `Aws.write` has it. Raises AwsError."""
        if rule.kind == OWN:
            told: dict[str, Any] = {"RuleArn": rule.arn, "Actions": actions}
            self._aws.write("elbv2", "modify_rule", rule.region, may, **told)
        else:
            told = {"ListenerArn": rule.arn, "DefaultActions": actions}
            self._aws.write("elbv2", "modify_listener", rule.region, may, **told)

    # --- many ---

    def _describe_region(self, region: str, rules: Collection[Rule]) -> dict[str, Found]:
        until = self._monotonic() + READ_SECONDS
        found: dict[str, Found] = {}
        for kind, arns in self._lists(rules):
            found |= self._ask(region, kind, arns, until)
        return found

    def _lists(self, rules: Collection[Rule]) -> list[tuple[str, Sequence[str]]]:
        """Return what to ask for, by kind. Another list comes first each time, so that where there
        is no time for all of them, none is left out time after time."""
        lists = [
            (kind, some)
            for kind in (OWN, DEFAULT)
            for some in in_parts(sorted({r.arn for r in rules if r.kind == kind}), AT_ONCE)
        ]
        first = next(self._turns) % len(lists)
        return lists[first:] + lists[:first]

    def _ask(self, region: str, kind: str, arns: Sequence[str], until: float) -> dict[str, Found]:
        if self._monotonic() >= until:
            return dict.fromkeys(arns, AwsUnknown("There was no time left to look at it."))
        try:
            found = self._call(region, kind, arns)
        except AwsError as error:
            if len(arns) == 1 or not _is_about_one(error):
                return dict.fromkeys(arns, error)
            half = len(arns) // 2
            parts = (arns[:half], arns[half:])
            first, second = (self._ask(region, kind, part, until) for part in parts)
            return first | second
        missing = [arn for arn in arns if arn not in found]
        return found | {arn: AwsRefused(f"{arn} is not there.", "RuleNotFound") for arn in missing}

    def _call(self, region: str, kind: str, arns: Sequence[str]) -> dict[str, Found]:
        if kind == OWN:
            told = self._aws.read("elbv2", "describe_rules", region, RuleArns=arns)
            return {
                each["RuleArn"]: Described(each["Actions"], each["IsDefault"])
                for each in told["Rules"]
            }
        told = self._aws.read("elbv2", "describe_listeners", region, ListenerArns=arns)
        return {
            each["ListenerArn"]: Described(each["DefaultActions"]) for each in told["Listeners"]
        }


def _is_about_one(error: AwsError) -> bool:
    """Tell whether a list may have been refused for what one entry of it is."""
    return (
        isinstance(error, AwsRefused)
        and not isinstance(error, AwsThrottled)
        and not error.forbidden
    )


def rule_of(target: Target) -> Rule:
    """Return what a target names. Raises Invalid, naming the field."""
    where = _arn(target.name, "/name")
    unknown = sorted(name for name, _ in target.settings if name not in SETTINGS)
    if unknown:
        raise Invalid(
            f"An alb target has the settings canary and stable, not {', '.join(unknown)}.",
            field=f"/settings/{unknown[0]}",
        )
    if where.kind not in {"listener", "listener-rule"} or not where.path.startswith("app/"):
        raise Invalid(
            f"{target.name} is not the ARN of a rule or listener of an Application Load Balancer.",
            field="/name",
        )
    canary, stable = (_group(target, name, where) for name in ("canary", "stable"))
    if canary == stable:
        raise Invalid("The canary and the stable group are one.", field="/settings/canary")
    is_rule = where.kind == "listener-rule"
    path = where.path.rpartition("/")[0] if is_rule else where.path
    return Rule(
        region=where.region,
        account=where.account,
        listener=where.of("listener", path),
        rule=target.name if is_rule else None,
        canary=canary,
        stable=stable,
    )


def _group(target: Target, name: str, where: Arn) -> str:
    text = target.get(name)
    if not isinstance(text, str):
        raise Invalid(
            f"An alb target needs {name}, the ARN of a target group.", field=f"/settings/{name}"
        )
    arn = _arn(text, f"/settings/{name}")
    if arn.kind != "targetgroup" or (arn.region, arn.account) != (where.region, where.account):
        raise Invalid(
            f"{text} is not the ARN of a target group of the rule's account and region.",
            field=f"/settings/{name}",
        )
    return text


def _arn(text: str, field: str) -> Arn:
    try:
        arn = Arn.parse(text)
    except ValueError as error:
        raise Invalid(str(error), field=field) from None
    if arn.service != "elasticloadbalancing":
        raise Invalid(f"{text} is not of Elastic Load Balancing.", field=field)
    return arn
