"""A rule of an Application Load Balancer as a target: the weights of two target groups.

A target of kind `alb` has for its name the ARN of a listener rule, or of a listener whose default
rule is meant; its settings are `canary` and `stable`, the ARNs of the two groups.

There is no conditional write at AWS. So each write begins with a look and ends with one, a
deployment of CodeDeploy or ECS that owns the listener is left alone, and a write whose answer was
lost is read back, never repeated.
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flagserver.aws import Aws, AwsError, AwsRefused, AwsUnknown
from flagserver.domain.errors import Conflict, Invalid, Refusal, TargetOwned, TargetUnavailable
from flagserver.domain.targets import Reading, Target

from . import forwards
from .forwards import Action
from .owners import Owners
from .rules import DEFAULT, GONE, Found, Rule, Rules, rule_of

log = logging.getLogger(__name__)

LOOKS = 3
PAUSE_SECONDS = 0.2
"""ELB shows a write a moment late at times: so often, so far apart, it is looked at again."""

OWNERS_SECONDS = 5.0
"""After so long no further rule's owner is asked for in one reading of many: a tick."""

ROLL_BACK_SECONDS = 3.0
"""How long a rollback looks through ECS for whoever may own the rule."""

NOT_IN_USE = "Target.NotInUse"
"""Why a group that no rule names has no healthy targets: nobody checks them."""

UNCHECKED = "Target.HealthCheckDisabled"


class AlbDriver:
    """`ports.TargetDriver` for Application Load Balancers."""

    kind = "alb"

    def __init__(
        self,
        aws: Aws,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._aws = aws
        self._rules = Rules(aws, monotonic)
        self._owners = Owners(aws, monotonic)
        self._monotonic = monotonic
        self._sleep = sleep

    # --- before it begins ---

    def check(self, target: Target) -> None:
        """Raise what stands against driving this target; see `ports.TargetDriver.check`."""
        rule = rule_of(target)
        try:
            self._check_account(rule)
            actions = self._actions_or_invalid(rule)
            self._check_groups(rule, actions)
            self._check_forward(rule, actions)
            owner = self._owners.of(rule.region, rule.listener, rule.rule)
            healthy = self._health(rule)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        if owner is not None:
            raise TargetOwned(f"{owner} owns {target.name}. Start when it is over.", field="/name")
        if healthy is False:
            raise Conflict(
                f"{rule.canary} has no healthy target; a canary needs one.",
                field="/settings/canary",
            )
        if _share(rule, actions) != 0:
            raise Conflict(
                f"{rule.canary} serves already. A rollout begins with a canary that does not.",
                field="/settings/canary",
            )

    def nearest(self, target: Target, share: int) -> int:  # noqa: ARG002 (the door's form)
        """Return the share that the weights for it make; see `forwards.weights_for`."""
        return forwards.nearest(share)

    # --- how it stands ---

    def read(self, target: Target) -> Reading:
        """Return how the rule stands now. Raises TargetUnavailable."""
        rule = rule_of(target)
        try:
            found = self._look(rule)
            owner = self._owners.of(rule.region, rule.listener, rule.rule, recent=True)
            # Whether a canary is fit matters before its first share; later its guards watch it.
            healthy = self._health(rule) if found.share == 0 else None
            return replace(found, owner=owner, healthy=healthy)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        """Return how each rule stands now, 20 of a region in a call; see `ports`. How fit canaries
        are is not asked: `set` does it before a first share."""
        found: dict[Target, Reading | Refusal] = {}
        rules: dict[Target, Rule] = {}
        for target in targets:
            try:
                rules[target] = rule_of(target)
            except Invalid as error:
                found[target] = error
        described = self._rules.describe_all(rules.values())
        until = self._monotonic() + OWNERS_SECONDS
        for target, rule in rules.items():
            try:
                found[target] = self._with_owner(rule, described[rule], until)
            except AwsError as error:
                found[target] = TargetUnavailable(str(error))
        return found

    def _with_owner(self, rule: Rule, found: Found, until: float) -> Reading:
        reading = _reading(rule, found)
        if self._monotonic() >= until:
            raise AwsUnknown(f"There was no time left to ask who owns {rule.arn}.")
        owner = self._owners.of(rule.region, rule.listener, rule.rule, recent=True)
        return replace(reading, owner=owner)

    # --- moving it ---

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:
        """Give the canary its share and return what is read back; see `ports.TargetDriver.set`.

        A canary that no rule names yet has no health, for nobody checks it. It is then given weight
        0 first, which exposes nobody, and TargetUnavailable says to come again when it is healthy.
        """
        rule, wanted = rule_of(target), forwards.nearest(share)
        try:
            found = self._as_decided_on(rule, wanted, before)
            found = replace(found, owner=self._owners.of(rule.region, rule.listener, rule.rule))
            _refuse_if_owned(target, found)
            if found.share == wanted:
                return found
            actions = _actions(found)
            if not found.share:
                self._prepare(rule, actions, deadline)
            after = forwards.with_share(actions, rule.canary, rule.stable, share)
            return replace(self._write(rule, after, deadline, wanted), owner=found.owner)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None

    def roll_back(self, target: Target, deadline: float) -> Reading:
        """Send everything to the stable group and nothing else; see `ports`.

        Who owns the rule is asked first. When that cannot be known the rollback goes ahead: what
        takes traffic from a bad version does not wait for another service's API.
        """
        rule = rule_of(target)
        try:
            found = self._look(rule)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        found = replace(found, owner=self._owner_or_nobody(rule))
        if found.owner is not None:
            raise TargetOwned(f"{found.owner} owns {target.name}; stop or roll back that.")
        actions = _actions(found)
        forward = forwards.forward_of(actions)
        if forward is None:
            # Nothing goes to the canary here. What somebody put in its place is not ours to undo.
            return replace(found, share=0)
        if forwards.weights_of(forward) == {rule.stable: 1}:
            return found
        try:
            return self._write(rule, forwards.rewritten(actions, {rule.stable: 1}), deadline, 0)
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None

    def commands_by_hand(self, target: Target) -> list[str]:
        """Return the `aws` commands that send everything to the stable group.

        They repeat what else the rule does where it can be read; where it cannot, a comment warns
        that they do not.
        """
        rule = rule_of(target)
        kept: Sequence[Action] = [{"Type": "forward"}]
        notes: list[str] = []
        try:
            found = self._rules.describe(rule).actions
            kept = found if forwards.forward_of(found) is not None else kept
        except AwsError:
            notes = [
                "# The rule could not be read: an authenticate action, if any, is to be added."
            ]
        actions = json.dumps(forwards.rewritten(kept, {rule.stable: 1}), separators=(",", ":"))
        if rule.kind == DEFAULT:
            words = ["modify-listener", "--listener-arn", rule.arn, "--default-actions", actions]
            look = ["describe-listeners", "--listener-arns", rule.arn]
        else:
            words = ["modify-rule", "--rule-arn", rule.arn, "--actions", actions]
            look = ["describe-rules", "--rule-arns", rule.arn]
        return [
            *notes,
            shlex.join(["aws", "elbv2", *words, "--region", rule.region]),
            shlex.join(["aws", "elbv2", *look, "--region", rule.region]),
        ]

    # --- looking ---

    def _look(self, rule: Rule) -> Reading:
        """Return the weights, without owner and health. Raises AwsError."""
        try:
            return _reading(rule, self._rules.describe(rule))
        except AwsRefused as error:
            return _reading(rule, error)

    def _as_decided_on(self, rule: Rule, wanted: int, before: Reading) -> Reading:
        """Look until the rule is as the caller saw it, or as it is to be; a reading can be late."""
        found = self._look(rule)
        for _ in range(LOOKS - 1):
            if found.foreign is None and found.share in {wanted, before.share}:
                return found
            self._sleep(PAUSE_SECONDS)
            found = self._look(rule)
        if found.foreign is None and found.share not in {wanted, before.share}:
            was, now = _percent(before.share), _percent(found.share)
            return replace(found, foreign=f"Its share is {now}, and was {was} when we decided.")
        return found

    def _owner_or_nobody(self, rule: Rule) -> str | None:
        try:
            return self._owners.of(rule.region, rule.listener, rule.rule, seconds=ROLL_BACK_SECONDS)
        except AwsError as error:
            log.warning("rolling back without knowing whether a deployment runs: %s", error)
            return None

    def _health(self, rule: Rule) -> bool | None:
        """Return whether the canary has a healthy target; None: no rule names it, so nobody looks.

        Targets of a group whose checks are off count as healthy, as they do for AWS.
        Raises AwsError.
        """
        told = self._elb(rule, "describe_target_health", TargetGroupArn=rule.canary)
        states = [each["TargetHealth"] for each in told["TargetHealthDescriptions"]]
        if any(s["State"] == "healthy" or s.get("Reason") == UNCHECKED for s in states):
            return True
        return None if any(s.get("Reason") == NOT_IN_USE for s in states) else False

    # --- writing ---

    def _prepare(self, rule: Rule, actions: Sequence[Action], deadline: float) -> None:
        """Return when the canary may get its first share. Raises TargetUnavailable, AwsError."""
        healthy = self._health(rule)
        weights = forwards.weights_of(forwards.forward_of(actions) or {})
        if healthy is None and rule.canary not in weights:
            self._write(rule, forwards.rewritten(actions, {**weights, rule.canary: 0}), deadline, 0)
            raise TargetUnavailable(
                f"{rule.canary} was not in use, so nobody checked its targets. It has weight 0 now "
                "and gets its first share when one of them is healthy.",
                retry_after=5.0,
            )
        if not healthy:
            raise TargetUnavailable(
                f"{rule.canary} has no healthy target; it gets its first share when it has one.",
                retry_after=5.0,
            )

    def _write(
        self, rule: Rule, actions: Sequence[Action], deadline: float, wanted: int
    ) -> Reading:
        """Write once, unless it is too late, and read back. Raises AwsError."""
        unknown = None
        try:
            self._rules.write(rule, actions, lambda: self._monotonic() < deadline)
        except AwsUnknown as error:
            unknown = error
        found = self._read_back(rule, wanted)
        if unknown is not None and found.share != wanted:
            raise unknown
        return found

    def _read_back(self, rule: Rule, wanted: int) -> Reading:
        found = self._look(rule)
        for _ in range(LOOKS - 1):
            if found.share == wanted:
                break
            self._sleep(PAUSE_SECONDS)
            found = self._look(rule)
        return found

    # --- what may be wrong ---

    def _check_account(self, rule: Rule) -> None:
        ours = self._aws.account()
        if rule.account != ours:
            raise Invalid(
                f"{rule.arn} is of account {rule.account}; our credentials are of {ours}.",
                field="/name",
            )

    def _actions_or_invalid(self, rule: Rule) -> Sequence[Action]:
        try:
            found = self._rules.describe(rule)
        except AwsRefused as error:
            if error.code in GONE:
                raise Invalid(f"{rule.arn} does not exist.", field="/name") from None
            raise
        if found.is_default:
            raise Invalid(
                f"{rule.arn} is the default rule; name its listener instead, {rule.listener}.",
                field="/name",
            )
        return found.actions

    def _check_forward(self, rule: Rule, actions: Sequence[Action]) -> None:
        said = forwards.foreign(actions, rule.canary, rule.stable)
        if said is not None:
            raise Invalid(said, field="/name")
        weights = forwards.weights_of(forwards.forward_of(actions) or {})
        if len(weights.keys() | {rule.canary, rule.stable}) > forwards.GROUPS:
            raise Invalid(
                f"With {rule.canary} the rule would have more than {forwards.GROUPS} target "
                "groups, which is the most that AWS allows.",
                field="/settings/canary",
            )

    def _check_groups(self, rule: Rule, actions: Sequence[Action]) -> None:
        for name, arn in (("canary", rule.canary), ("stable", rule.stable)):
            try:
                told = self._elb(rule, "describe_target_group_attributes", TargetGroupArn=arn)
            except AwsRefused as error:
                if error.code == "TargetGroupNotFound":
                    raise Invalid(f"{arn} does not exist.", field=f"/settings/{name}") from None
                raise
            attributes = {each["Key"]: each["Value"] for each in told["Attributes"]}
            if attributes.get("stickiness.enabled") == "true" and not forwards.sticks(actions):
                raise Invalid(
                    f"The targets of {arn} are sticky. AWS wants the rule's groups to be sticky "
                    "too before they can have weights (TargetGroupStickinessConfig).",
                    field=f"/settings/{name}",
                )

    def _elb(self, rule: Rule, operation: str, **parameters: Any) -> Mapping[str, Any]:
        return self._aws.read("elbv2", operation, rule.region, **parameters)


def _reading(rule: Rule, found: Found) -> Reading:
    """Return what AWS said of a rule as a reading, without owner and health. Raises AwsError."""
    if isinstance(found, AwsRefused) and found.code in GONE:
        return Reading(None, foreign=f"{rule.arn} does not exist any more.")
    if isinstance(found, AwsError):
        raise found
    said = forwards.foreign(found.actions, rule.canary, rule.stable)
    share = _share(rule, found.actions) if said is None else None
    return Reading(share, foreign=said, raw={"actions": found.actions})


def _actions(reading: Reading) -> Sequence[Action]:
    actions: Sequence[Action] = reading.raw.get("actions", ())
    return actions


def _share(rule: Rule, actions: Sequence[Action]) -> int:
    weights = forwards.weights_of(forwards.forward_of(actions) or {})
    return forwards.share_of(weights.get(rule.canary, 0), weights.get(rule.stable, 0))


def _refuse_if_owned(target: Target, found: Reading) -> None:
    if found.owner is not None:
        raise TargetOwned(f"{found.owner} owns {target.name}.")
    if found.foreign is not None:
        raise TargetOwned(f"Somebody else changed {target.name}: {found.foreign}")


def _percent(share: int | None) -> str:
    return "unknown" if share is None else f"{share / 10_000:g} %"
