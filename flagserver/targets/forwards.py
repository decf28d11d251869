"""What the actions of an ALB rule say of two target groups, and how to say something else. Pure.

Actions are as DescribeRules has them. A rule forwards to up to five groups, each with a whole
number from 0 to 999 for a weight; what counts is their ratio. ModifyRule takes the whole list of
actions, so all else of the rule is repeated as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

WHOLE = 1_000_000
"""A share of 100 % in parts per million."""

HEAVIEST = 999
GROUPS = 5
"""Most target groups of one action; AWS does not raise it."""

Action = Mapping[str, Any]
Weights = dict[str, int]
"""Target group -> weight, in the rule's order."""


@lru_cache(maxsize=4096)
def weights_for(share: int) -> tuple[int, int]:
    """Return the weights of canary and stable that come nearest to a share from below.

    Every multiple of 0.1 % is met exactly: 0.1 % is 1 : 999. Any other share above 0.1 % is missed
    by less than 0.1 percentage points. A share below 0.1 % cannot be said at all; it is 0. Never
    above the share, by parts per million rounded down. Of pairs that say the same, the smallest.
    """
    if share >= WHOLE:
        return 1, 0
    best = (0, 1)
    for canary in range(1, HEAVIEST + 1):
        # The least weight of stable with which `canary` stays within the share.
        stable = canary * WHOLE // (share + 1) - canary + 1
        if stable > HEAVIEST:
            break
        if canary * best[1] > best[0] * stable:
            best = (canary, stable)
    return best


def share_of(canary: int, stable: int) -> int:
    """Return the share that two weights make, parts per million rounded down. One is above 0."""
    return canary * WHOLE // (canary + stable)


def nearest(share: int) -> int:
    """Return the share that the weights for it really make."""
    return share_of(*weights_for(share))


def forward_of(actions: Sequence[Action]) -> Action | None:
    """Return the action that forwards, or None: the rule redirects, or answers by itself."""
    return next((action for action in actions if action["Type"] == "forward"), None)


def weights_of(action: Action) -> Weights:
    """Return the weights of an action that forwards."""
    groups = action.get("ForwardConfig", {}).get("TargetGroups")
    if not groups:
        return {action["TargetGroupArn"]: 1}
    return {each["TargetGroupArn"]: each.get("Weight", 1) for each in groups}


def sticks(actions: Sequence[Action]) -> bool:
    """Tell whether clients stick to the group that they met first."""
    forward = forward_of(actions) or {}
    config = forward.get("ForwardConfig", {}).get("TargetGroupStickinessConfig") or {}
    return bool(config.get("Enabled"))


def foreign(actions: Sequence[Action], canary: str, stable: str) -> str | None:
    """Return in a sentence why the rule's weights cannot be said as a share; None: they can."""
    forward = forward_of(actions)
    if forward is None:
        kinds = ", ".join(action["Type"] for action in actions)
        return f"The rule does not forward any more ({kinds})."
    weights = weights_of(forward)
    others = [arn for arn, weight in weights.items() if weight and arn not in {canary, stable}]
    if others:
        return f"The rule sends traffic to {', '.join(others)}, which this rollout does not know."
    if not weights.get(canary, 0) + weights.get(stable, 0):
        return "The rule's weights add up to 0."
    return None


def with_share(actions: Sequence[Action], canary: str, stable: str, share: int) -> list[Action]:
    """Return the actions with the weights for a share and nothing else changed.

    At 0 % and at 100 % the group that gets nothing is left out altogether, since a client that
    sticks to it might go on going there; groups of others that have weight 0 stay.
    """
    forward = forward_of(actions)
    had = weights_of(forward) if forward is not None else {}
    wanted = dict(zip((canary, stable), weights_for(share), strict=True))
    weights = {arn: wanted.get(arn, weight) for arn, weight in (had | wanted).items()}
    return rewritten(
        actions, {arn: weights[arn] for arn in weights if weights[arn] or arn not in wanted}
    )


def rewritten(actions: Sequence[Action], weights: Weights) -> list[Action]:
    """Return the actions as ModifyRule takes them: forwarding by these weights, else as before."""
    return [_written(action, weights) for action in actions]


def _written(action: Action, weights: Weights) -> Action:
    if action["Type"] == "authenticate-oidc":
        # The secret is never told; this keeps the one that AWS has.
        config = {**action["AuthenticateOidcConfig"], "UseExistingClientSecret": True}
        config.pop("ClientSecret", None)
        return {**action, "AuthenticateOidcConfig": config}
    if action["Type"] != "forward":
        return action
    kept = {key: value for key, value in action.items() if key != "TargetGroupArn"}
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    return {**kept, "ForwardConfig": {**action.get("ForwardConfig", {}), "TargetGroups": groups}}
