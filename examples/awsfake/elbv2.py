"""Elastic Load Balancing: moto's, as strict as AWS is, with a health that can be said, and with
readings that may show an older state for a while."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.elbv2 import models
from moto.elbv2.models import (
    ELBv2Backend,
    FakeAction,
    FakeHealthStatus,
    FakeTargetGroup,
    elbv2_backends,
)
from moto.elbv2.responses import ELBV2Response

REFUSED = (
    "a weight below 0 or above 999, or none beside other groups",
    "more than five target groups in one action",
    "weights that add up to 0",
    "the same target group twice in one action",
    "TargetGroupArn beside a ForwardConfig of other groups",
    "stickiness of groups without a duration, or one outside 1 s to 7 days",
    "groups whose targets are sticky in a weighted action whose groups are not",
    "ModifyRule of a default rule (ModifyListener is for that)",
    "an OIDC action with neither ClientSecret nor UseExistingClientSecret",
    "no forward, redirect or fixed response at the end, or more than one of them",
    "a target group that another load balancer uses",
    "a list of rules or listeners of which one is not there",
)
"""What AWS refuses and moto does not; tests/awsfake/test_refused.py has a case for each."""

LAST = frozenset({"forward", "redirect", "fixed-response"})

_stale: ContextVar[bool] = ContextVar("stale", default=False)

_before: dict[str, list[FakeAction]] = {}
"""The actions of a rule or listener before its last write, by ARN."""

_health: dict[tuple[str, str], tuple[str, str | None]] = {}
"""(target group, target) -> (state, reason)."""


class Refused(ServiceException):
    """An answer of 400 with a code."""


def say_health(group: str, target: str, state: str, reason: str | None) -> None:
    """Let a target be in this state from now on."""
    _health[group, target] = (state, reason)


def said_health(group: str, target: str) -> str:
    """Return the state that a target was said to be in last; all begin healthy."""
    return _health.get((group, target), ("healthy", None))[0]


def forget() -> None:
    """Begin anew."""
    _before.clear()
    _health.clear()


@contextmanager
def showing_the_past() -> Iterator[None]:
    """Within, rules and listeners are described as they were before their last write."""
    token = _stale.set(True)
    try:
        yield
    finally:
        _stale.reset(token)


def lose(arn: str, account: str, region: str) -> None:
    """Take the last write to a rule or listener back, as if it had never been made."""
    backend = elbv2_backends[account][region]
    if arn in _before:
        _put(backend, arn, _before.pop(arn))


def weights(arn: str, account: str) -> dict[str, int] | None:
    """Return target group -> weight of a rule, or of a listener's default rule; None: unknown."""
    backend = elbv2_backends[account][arn.split(":")[3]]
    actions = _actions(backend, arn)
    if actions is None:
        return None
    forwards = [action.data for action in actions if action.type == "forward"]
    return {arn: weight for each in forwards for arn, weight in _groups(each)}


# --- as CodeDeploy sets it ------------------------------------------------------------------------


def serving(listener: str, names: Sequence[str], account: str) -> str:
    """Return which of these target groups, by name, a listener's rules forward the most to.

    Raises LookupError when one of them does not exist, or none is forwarded to.
    """
    backend = elbv2_backends[account][listener.split(":")[3]]
    arns = {name: _arn_of(backend, name) for name in names}
    most: dict[str, int] = dict.fromkeys(names, 0)
    for arn, _ in _rules_of(backend, listener):
        for name, group in arns.items():
            most[name] = max(most[name], (weights(arn, account) or {}).get(group, 0))
    if not any(most.values()):
        raise LookupError(f"{listener} forwards to none of {', '.join(names)}.")
    return max(names, key=lambda name: most[name])


def shift(listener: str, by_name: Mapping[str, int], account: str) -> None:
    """Let every rule of a listener, its default one too, that forwards to one of these target
    groups forward to all of them with these weights; a group of 0 stays in it, as at AWS."""
    backend = elbv2_backends[account][listener.split(":")[3]]
    wanted = {_arn_of(backend, name): weight for name, weight in by_name.items()}
    for arn, actions in _rules_of(backend, listener):
        if any(wanted.keys() & dict(_groups(action.data)).keys() for action in actions):
            _before[arn] = actions
            _put(backend, arn, [_shifted(action, wanted) for action in actions])


def _rules_of(backend: ELBv2Backend, listener: str) -> list[tuple[str, list[FakeAction]]]:
    """Return the actions of a listener's default rule, by the listener's ARN, and of its others.

    Raises LookupError.
    """
    for balancer in backend.load_balancers.values():
        found = balancer.listeners.get(listener)
        if found is not None:
            others = [rule for rule in found.rules.values() if not rule.is_default]
            return [
                (listener, list(found.default_actions)),
                *((rule.arn, list(rule.actions)) for rule in others),
            ]
    raise LookupError(f"There is no listener {listener}.")


def _arn_of(backend: ELBv2Backend, name: str) -> str:
    for group in backend.target_groups.values():
        if group.name == name:
            return str(group.arn)
    raise LookupError(f"There is no target group {name}.")


def _shifted(action: FakeAction, wanted: Mapping[str, int]) -> FakeAction:
    if action.type != "forward":
        return action
    data = copy.deepcopy(action.data)
    data.pop("TargetGroupArn", None)
    forward = data.setdefault("ForwardConfig", {})
    forward["TargetGroups"] = [
        {"TargetGroupArn": arn, "Weight": weight} for arn, weight in wanted.items()
    ]
    return FakeAction(data)


# --- operations -----------------------------------------------------------------------------------


def install() -> None:
    """Put these in the place of moto's."""
    create_rule, modify_rule = ELBv2Backend.create_rule, ELBv2Backend.modify_rule
    create_listener, modify_listener = ELBv2Backend.create_listener, ELBv2Backend.modify_listener
    describe_rules, health_for = ELBv2Backend.describe_rules, FakeTargetGroup.health_for
    describe_listeners = ELBv2Backend.describe_listeners

    def strict_create_rule(self: Any, listener_arn: str, *args: Any, **given: Any) -> Any:
        _check(self, given["actions"], [], _balancer_of(listener_arn))
        return create_rule(self, listener_arn, *args, **given)

    def strict_create_listener(self: Any, *args: Any, **given: Any) -> Any:
        _check(self, given["actions"], [], given["load_balancer_arn"])
        return create_listener(self, *args, **given)

    def strict_modify_rule(self: Any, *, rule_arn: str, conditions: Any, actions: Any) -> Any:
        (rule,) = describe_rules(self, None, [rule_arn])
        if rule.is_default:
            raise Refused("OperationNotPermitted", f"Default rule '{rule_arn}' cannot be modified")
        before = list(rule.actions)
        _check(self, actions, before, _balancer_of(rule_arn))
        changed = modify_rule(self, rule_arn=rule_arn, conditions=conditions, actions=actions)
        _before[rule_arn] = before
        return changed

    def strict_modify_listener(self: Any, arn: str, *args: Any, **given: Any) -> Any:
        (listener,) = describe_listeners(self, None, [arn])
        before = list(listener.default_actions)
        _check(self, given.get("actions") or [], before, _balancer_of(arn))
        changed = modify_listener(self, arn, *args, **given)
        _before[arn] = before
        return changed

    def rules_now_or_then(self: Any, *args: Any, **given: Any) -> Any:
        return [_then(rule, "actions") for rule in describe_rules(self, *args, **given)]

    def listeners_now_or_then(self: Any, load_balancer_arn: Any, listener_arns: Any) -> Any:
        found = describe_listeners(self, load_balancer_arn, listener_arns)
        _check_found(found, [] if load_balancer_arn else listener_arns)
        return [_then(listener, "default_actions") for listener in found] if _stale.get() else found

    def health(self: Any, target: Any, ec2: Any) -> FakeHealthStatus:
        found = health_for(self, target, ec2)
        backend = elbv2_backends[self.account_id][self.region_name]
        in_use = backend._any_listener_using(self.arn)  # noqa: SLF001 (as moto's own do)
        if found.status == "healthy" and not in_use:
            # What no rule names is not checked.
            found.status, found.reason = "unused", "Target.NotInUse"
            return found
        if (self.arn, found.instance_id) in _health:
            found.status, found.reason = _health[self.arn, found.instance_id]
        return found

    for owner, name, ours in (
        (ELBv2Backend, "create_rule", strict_create_rule),
        (ELBv2Backend, "create_listener", strict_create_listener),
        (ELBv2Backend, "modify_rule", strict_modify_rule),
        (ELBv2Backend, "modify_listener", strict_modify_listener),
        (ELBv2Backend, "describe_rules", rules_now_or_then),
        (ELBv2Backend, "describe_listeners", listeners_now_or_then),
        (FakeTargetGroup, "health_for", health),
    ):
        setattr(owner, name, ours)
    _allow_jwt()
    _answer_as_aws()


def _allow_jwt() -> None:
    """Let there be actions that moto does not know yet."""
    validate = ELBv2Backend._validate_actions  # noqa: SLF001 (there is no other door)

    def without_jwt(self: Any, actions: Sequence[FakeAction]) -> None:
        validate(self, [action for action in actions if action.type != "jwt-validation"])

    models.ALLOWED_ACTIONS.append("jwt-validation")
    setattr(ELBv2Backend, "_validate_actions", without_jwt)  # noqa: B010 (mypy)


def _answer_as_aws() -> None:
    """Describe actions as AWS does: without secrets, a group of one also by TargetGroupArn."""
    for name in ("describe_rules", "describe_listeners", "modify_rule", "modify_listener"):
        setattr(ELBV2Response, name, _told(getattr(ELBV2Response, name)))


def _told(operation: Any) -> Any:
    def answer(self: Any) -> ActionResult:
        result: dict[str, Any] = operation(self).result
        for kind, actions in (("Rules", "actions"), ("Listeners", "default_actions")):
            if kind in result:
                result[kind] = [_as_told(thing, actions) for thing in result[kind]]
        return ActionResult(result)

    return answer


def _as_told(thing: Any, actions: str) -> Any:
    told = copy.copy(thing)
    setattr(told, actions, [_action_as_told(action) for action in getattr(thing, actions)])
    return told


def _action_as_told(action: FakeAction) -> FakeAction:
    data = copy.deepcopy(action.data)
    if "AuthenticateOidcConfig" in data:
        data["AuthenticateOidcConfig"].pop("ClientSecret", None)
        data["AuthenticateOidcConfig"].pop("UseExistingClientSecret", None)
    if data["Type"] == "forward":
        groups = _groups(data)
        forward = data.setdefault("ForwardConfig", {})
        forward["TargetGroups"] = [{"TargetGroupArn": arn, "Weight": w} for arn, w in groups]
        data.pop("TargetGroupArn", None)
        if len(groups) == 1:
            data["TargetGroupArn"] = groups[0][0]
    return FakeAction(data)


def _then(thing: Any, actions: str) -> Any:
    if not _stale.get() or thing.arn not in _before:
        return thing
    then = copy.copy(thing)
    setattr(then, actions, _before[thing.arn])
    return then


def _actions(backend: ELBv2Backend, arn: str) -> list[FakeAction] | None:
    for balancer in backend.load_balancers.values():
        for listener in balancer.listeners.values():
            if listener.arn == arn:
                return list(listener.default_actions)
            for rule in listener.rules.values():
                if rule.arn == arn:
                    return list(rule.actions)
    return None


def _put(backend: ELBv2Backend, arn: str, actions: list[FakeAction]) -> None:
    for balancer in backend.load_balancers.values():
        for listener in balancer.listeners.values():
            if listener.arn == arn:
                listener.default_actions = actions
                listener._default_rule[0].actions = actions  # noqa: SLF001 (as moto's own do)
            for rule in listener.rules.values():
                if rule.arn == arn:
                    rule.actions = actions


# --- what AWS refuses -----------------------------------------------------------------------------


def _check_found(listeners: Sequence[Any], asked_for: Sequence[str]) -> None:
    if len(listeners) < len(asked_for):
        raise Refused("ListenerNotFound", "One or more listeners not found")


def _check(
    backend: ELBv2Backend, actions: Sequence[Any], before: Sequence[FakeAction], balancer: str
) -> None:
    # moto hands over what it parsed, which serves as the action's data too.
    if not actions:
        return
    last = [action["Type"] for action in actions if action["Type"] in LAST]
    in_order = sorted(actions, key=lambda action: action.get("Order", len(actions)))
    if len(last) != 1 or in_order[-1]["Type"] not in LAST:
        raise Refused("InvalidLoadBalancerAction", "An action must end with one routing action.")
    for action in actions:
        if action["Type"] == "forward":
            _check_forward(backend, action, balancer)
        if action["Type"] == "authenticate-oidc":
            _check_oidc(action["AuthenticateOidcConfig"], before)


def _check_oidc(config: Mapping[str, Any], before: Sequence[FakeAction]) -> None:
    had = any("AuthenticateOidcConfig" in action.data for action in before)
    keeps = str(config.get("UseExistingClientSecret")).lower() == "true"
    if not config.get("ClientSecret") and not (keeps and had):
        raise Refused("ValidationError", "A client secret is required.")


def _groups(action: Mapping[str, Any]) -> list[tuple[str, int]]:
    groups = action.get("ForwardConfig", {}).get("TargetGroups")
    if groups:
        return [(each["TargetGroupArn"], int(each.get("Weight", 1))) for each in groups]
    return [(action["TargetGroupArn"], 1)] if "TargetGroupArn" in action else []


def _check_forward(backend: ELBv2Backend, action: Mapping[str, Any], balancer: str) -> None:
    config = action.get("ForwardConfig", {})
    given = config.get("TargetGroups", [])
    groups = _groups(action)
    arns = [arn for arn, _ in groups]
    if given and action.get("TargetGroupArn") and arns != [action["TargetGroupArn"]]:
        raise Refused("ValidationError", "TargetGroupArn and ForwardConfig must name one group.")
    if len(groups) > 5:
        raise Refused(
            "TooManyUniqueTargetGroupsPerLoadBalancer", "An action has at most 5 target groups."
        )
    if len(set(arns)) < len(arns):
        raise Refused("ValidationError", "A target group must not be given twice.")
    if any(not 0 <= weight <= 999 for _, weight in groups):
        raise Refused("ValidationError", "Member must have a value from 0 to 999 (weight).")
    if len(groups) > 1 and any("Weight" not in each for each in given):
        raise Refused("ValidationError", "Weight is required with more than one target group.")
    if not sum(weight for _, weight in groups):
        raise Refused("ValidationError", "At least one weight must be above 0.")
    sticky = _check_stickiness(config.get("TargetGroupStickinessConfig") or {})
    for arn in arns:
        group = backend.target_groups.get(arn)
        if group is None:
            raise Refused("TargetGroupNotFound", f"Target groups '{arn}' not found")
        own = str(group.attributes.get("stickiness.enabled")).lower() == "true"
        if own and len(groups) > 1 and not sticky:
            raise Refused(
                "InvalidLoadBalancerAction",
                "Target group stickiness must be on where a group's targets are sticky.",
            )
        if any(other != balancer for other in group.load_balancer_arns):
            raise Refused("TargetGroupAssociationLimit", "It is used by another load balancer.")


def _check_stickiness(config: Mapping[str, Any]) -> bool:
    if str(config.get("Enabled")).lower() != "true":
        return False
    if not 1 <= int(config.get("DurationSeconds") or 0) <= 604_800:
        raise Refused("ValidationError", "DurationSeconds must be from 1 to 604800.")
    return True


def _balancer_of(arn: str) -> str:
    """Return the load balancer of a listener or rule."""
    head, _, path = arn.partition(":listener")
    parts = path.partition("/")[2].split("/")
    return f"{head}:loadbalancer/{'/'.join(parts[:3])}"
