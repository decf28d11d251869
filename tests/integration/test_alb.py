"""What only an ALB does: stories of the driver over AWS's double, through the real boto3."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from examples.awsfake.scene import APPLICATION, REGION, Scene, deploy, deployment_group
from flagserver.domain.errors import Conflict, Invalid, TargetOwned, TargetUnavailable
from flagserver.domain.targets import Target
from flagserver.targets.alb import AlbDriver
from tests.awsfake.double import Double, double, environment_of
from tests.servers import wait_until

NEVER = math.inf
FIVE, QUARTER = 50_000, 250_000
OIDC: dict[str, Any] = {
    "Type": "authenticate-oidc",
    "Order": 1,
    "AuthenticateOidcConfig": {
        "Issuer": "https://id.example",
        "AuthorizationEndpoint": "https://id.example/authorize",
        "TokenEndpoint": "https://id.example/token",
        "UserInfoEndpoint": "https://id.example/me",
        "ClientId": "shop",
        "ClientSecret": "s3cret",
        "Scope": "openid",
    },
}
COGNITO: dict[str, Any] = {
    "Type": "authenticate-cognito",
    "Order": 1,
    "AuthenticateCognitoConfig": {
        "UserPoolArn": "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_shop",
        "UserPoolClientId": "shop",
        "UserPoolDomain": "shop",
        "SessionCookieName": "sign-in",
        "Scope": "openid",
        "OnUnauthenticatedRequest": "authenticate",
    },
}
JWT: dict[str, Any] = {
    "Type": "jwt-validation",
    "Order": 1,
    "JwtValidationConfig": {"JwksEndpoint": "https://id.example/keys", "Issuer": "id"},
}
STICKY = {"Enabled": True, "DurationSeconds": 3600}


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


class House:
    """A scene whose idle group is in the rule already, and a driver."""

    def __init__(self, aws: Double) -> None:
        self.aws = aws
        self.scene: Scene = aws.scene()
        self.elb = aws.client("elbv2")
        self.driver = AlbDriver(aws.aws(), sleep=lambda _: None)
        self.target = Target.of(
            "alb", self.scene.rule, canary=self.scene.green, stable=self.scene.blue
        )
        self.forward({self.scene.blue: 1, self.scene.green: 0})

    def forward(self, groups: dict[str, int], *before: dict[str, Any], sticky: Any = None) -> None:
        """Let the rule forward by these weights, after these actions."""
        config: dict[str, Any] = {
            "TargetGroups": [{"TargetGroupArn": arn, "Weight": w} for arn, w in groups.items()]
        }
        if sticky:
            config["TargetGroupStickinessConfig"] = sticky
        last = {"Type": "forward", "Order": 50, "ForwardConfig": config}
        self.elb.modify_rule(RuleArn=self.scene.rule, Actions=[*before, last])
        self.aws.forget_calls()

    def actions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.elb.describe_rules(RuleArns=[self.scene.rule])["Rules"][
            0
        ]["Actions"]
        return found

    def set(self, share: int, deadline: float = NEVER) -> Any:
        return self.driver.set(self.target, share, self.driver.read(self.target), deadline)

    def weights(self) -> dict[str, int]:
        """By side."""
        sides = {self.scene.blue: "blue", self.scene.green: "green"}
        return {sides.get(arn, arn): w for arn, w in self.aws.weights(self.scene.rule).items()}

    def group(self, name: str) -> str:
        vpc = self.aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        made = self.elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc)
        return str(made["TargetGroups"][0]["TargetGroupArn"])


def config(house: House, **weights: int) -> dict[str, Any]:
    """Sides with their weights, as a forward has them."""
    return {
        "TargetGroups": [
            {"TargetGroupArn": getattr(house.scene, side), "Weight": weight}
            for side, weight in weights.items()
        ]
    }


@pytest.fixture
def house(aws: Double) -> House:
    return House(aws)


# --- what it changes and what not -----------------------------------------------------------------


def test_all_else_of_the_rule_is_kept(house):
    house.forward({house.scene.blue: 1, house.scene.green: 0}, OIDC, sticky=STICKY)
    house.set(FIVE)
    house.set(QUARTER)
    sign_in, forward = house.actions()
    config = {k: v for k, v in OIDC["AuthenticateOidcConfig"].items() if k != "ClientSecret"}
    assert sign_in == {**OIDC, "AuthenticateOidcConfig": config}
    assert forward["Order"] == 50
    assert forward["ForwardConfig"]["TargetGroupStickinessConfig"] == STICKY
    assert house.weights() == {"blue": 3, "green": 1}


@pytest.mark.parametrize("action", [OIDC, COGNITO, JWT], ids=lambda each: each["Type"])
def test_whoever_signs_in_before_is_kept_at_every_step_and_back(house, action):
    house.forward({house.scene.blue: 1, house.scene.green: 0}, action)
    as_it_is = house.actions()[0]
    for share in (FIVE, QUARTER, 500_000, 1_000_000):
        house.set(share)
        assert house.actions()[0] == as_it_is
    house.driver.roll_back(house.target, NEVER)
    assert house.actions()[0] == as_it_is
    assert as_it_is["Order"] == 1


def test_of_a_default_rule_too_all_else_is_kept(house):
    forward = {"Type": "forward", "Order": 50, "ForwardConfig": config(house, blue=1, green=0)}
    house.elb.modify_listener(ListenerArn=house.scene.listener, DefaultActions=[OIDC, forward])
    rule_before = house.actions()
    groups = {"canary": house.scene.green, "stable": house.scene.blue}
    target = Target.of("alb", house.scene.listener, **groups)
    house.aws.forget_calls()
    for share in (FIVE, QUARTER):
        house.driver.set(target, share, house.driver.read(target), NEVER)
    assert house.aws.calls("ModifyListener", "ModifyRule") == ["ModifyListener"] * 2
    told = house.elb.describe_listeners(ListenerArns=[house.scene.listener])["Listeners"][0]
    sign_in, after = told["DefaultActions"]
    assert sign_in["AuthenticateOidcConfig"]["ClientId"] == "shop"
    assert after["Order"] == 50
    assert after["ForwardConfig"]["TargetGroups"] == config(house, blue=3, green=1)["TargetGroups"]
    # The listener's other rules are none of it.
    assert house.actions() == rule_before


def test_the_smallest_and_the_largest_share_are_within_what_aws_takes(house):
    house.set(1_000)
    assert house.weights() == {"blue": 999, "green": 1}
    house.set(999_000)
    assert house.weights() == {"blue": 1, "green": 999}


def test_others_of_five_groups_stay_in_the_rule_at_0(house):
    others = {house.group(f"other-{number}"): 0 for number in range(3)}
    house.forward({house.scene.blue: 1, house.scene.green: 0, **others})
    house.driver.check(house.target)
    house.set(FIVE)
    assert house.weights() == {"blue": 19, "green": 1, **others}


def test_a_rollback_leaves_one_group_so_that_sticky_clients_leave_too(house):
    house.forward({house.scene.blue: 1, house.scene.green: 0}, OIDC, sticky=STICKY)
    house.set(FIVE)
    house.driver.roll_back(house.target, NEVER)
    sign_in, forward = house.actions()
    assert sign_in["Type"] == "authenticate-oidc"
    assert forward["TargetGroupArn"] == house.scene.blue
    assert house.weights() == {"blue": 1}
    # The next rollout finds the stickiness as it was.
    assert forward["ForwardConfig"]["TargetGroupStickinessConfig"] == STICKY


def test_each_step_is_one_write(house):
    house.set(FIVE)
    assert house.aws.calls("ModifyRule", "ModifyListener") == ["ModifyRule"]


def test_a_rule_that_a_person_made_answer_by_itself_is_left_alone(house):
    house.set(FIVE)
    page = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    house.elb.modify_rule(RuleArn=house.scene.rule, Actions=[page])
    found = house.driver.roll_back(house.target, NEVER)
    assert found.share == 0
    assert "does not forward" in found.foreign
    assert house.actions()[0]["Type"] == "fixed-response"


# --- a canary that nobody checks yet --------------------------------------------------------------


def test_a_canary_that_no_rule_names_is_named_first_at_weight_0(house):
    house.forward({house.scene.blue: 1})
    house.driver.check(house.target)
    assert house.driver.read(house.target).healthy is None
    house.aws.unhealthy(house.scene.green, state="initial")
    house.aws.forget_calls()
    with pytest.raises(TargetUnavailable, match="weight 0 now"):
        house.set(FIVE)
    assert house.weights() == {"blue": 1, "green": 0}
    with pytest.raises(TargetUnavailable, match="no healthy target"):
        house.set(FIVE)
    house.aws.unhealthy(house.scene.green, state="healthy")
    assert house.set(FIVE).share == FIVE


# --- trouble --------------------------------------------------------------------------------------


def test_throttled(house):
    house.driver = AlbDriver(house.aws.aws(reads_at_once=100))
    before = house.driver.read(house.target)
    house.aws.forget_calls()
    house.aws.fault("ModifyRule", "throttle")
    with pytest.raises(TargetUnavailable, match="Rate exceeded"):
        house.driver.set(house.target, FIVE, before, NEVER)
    # Who asks too much is not asked again by us, within the call: the caller decides.
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]
    assert house.weights() == {"blue": 1, "green": 0}
    # Reads are tried again.
    house.aws.fault("DescribeRules", "throttle")
    assert house.driver.read(house.target).share == 0


@pytest.mark.slow
def test_timed_out_but_applied(house):
    before = house.driver.read(house.target)
    house.aws.fault("ModifyRule", "applied", seconds=5)
    began = time.monotonic()
    assert house.driver.set(house.target, FIVE, before, NEVER).share == FIVE
    assert time.monotonic() - began < 6
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]


@pytest.mark.slow
def test_a_write_that_lands_late_is_found(house):
    before = house.driver.read(house.target)
    house.aws.fault("ModifyRule", "late", seconds=5)
    with pytest.raises(TargetUnavailable, match="timeout"):
        house.driver.set(house.target, FIVE, before, NEVER)
    assert house.driver.read(house.target).share == 0
    wait_until(lambda: house.weights()["green"] == 1, "the late write to land")
    assert house.driver.read(house.target).share == FIVE
    assert house.driver.set(house.target, FIVE, before, NEVER).share == FIVE
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]


def test_an_error_of_theirs(house):
    before = house.driver.read(house.target)
    house.aws.fault("ModifyRule", "fail")
    with pytest.raises(TargetUnavailable, match="ServiceUnavailable"):
        house.driver.set(house.target, FIVE, before, NEVER)
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]
    house.aws.fault("DescribeRules", "fail")
    assert house.driver.read(house.target).share == 0


def test_a_write_whose_lease_ends_between_our_look_and_the_socket_is_not_sent(house):
    clock = [0.0]
    session = boto3.session.Session()
    # Credentials that are renewed when a request is signed, or a process that was stopped there.
    session.events.register(
        "request-created.elastic-load-balancing-v2.ModifyRule",
        lambda **_: clock.__setitem__(0, 11.0),
    )
    aws = house.aws.aws(session=session)
    driver = AlbDriver(aws, monotonic=lambda: clock[0], sleep=lambda _: None)
    before = driver.read(house.target)
    with pytest.raises(TargetUnavailable, match="nothing was written"):
        driver.set(house.target, FIVE, before, 10.0)
    clock[0] = 0.0
    house.set(FIVE)
    with pytest.raises(TargetUnavailable, match="nothing was written"):
        driver.roll_back(house.target, 10.0)
    assert house.weights() == {"blue": 19, "green": 1}
    # One, that of the other driver; ours never left.
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]
    assert driver.roll_back(house.target, 12.0).share == 0


def test_eventual_consistency_for_a_moment(house):
    before = house.driver.read(house.target)
    # The first look is before the write; the next two show how it was.
    house.aws.fault("DescribeRules", "stale", times=2, after=1)
    assert house.driver.set(house.target, FIVE, before, NEVER).share == FIVE


def test_eventual_consistency_for_longer(house):
    before = house.driver.read(house.target)
    house.aws.fault("DescribeRules", "stale", times=3, after=1)
    late = house.driver.set(house.target, FIVE, before, NEVER)
    assert late.share == 0
    # The caller comes again with what it saw, and it has long been so.
    assert house.driver.set(house.target, FIVE, late, NEVER).share == FIVE
    assert house.aws.calls("ModifyRule") == ["ModifyRule"]


def test_a_late_reading_is_no_foreign_change(house):
    before = house.set(FIVE)
    house.aws.fault("DescribeRules", "stale")
    assert house.driver.set(house.target, QUARTER, before, NEVER).share == QUARTER


@pytest.mark.slow
def test_no_answer_at_all_takes_five_seconds_at_most(house):
    house.aws.fault("*", "hang", times=10, seconds=6)
    began = time.monotonic()
    with pytest.raises(TargetUnavailable):
        house.driver.read(house.target)
    assert time.monotonic() - began < 5
    house.aws.well()


def test_a_rule_that_is_gone(house):
    house.elb.delete_rule(RuleArn=house.scene.rule)
    assert "does not exist any more" in house.driver.read(house.target).foreign


# --- who owns it ----------------------------------------------------------------------------------


def codedeploy(aws: Double, of: Scene, status: str, name: str = "shop") -> None:
    group = deployment_group(of, name)
    aws.client("codedeploy").create_application(applicationName=APPLICATION, computePlatform="ECS")
    aws.client("codedeploy").create_deployment_group(**group)
    aws.tell("codedeploy", deployment=deploy(aws.url), status=status, region=REGION)


@pytest.mark.parametrize("status", ["Created", "Queued", "InProgress", "Baking", "Ready"])
def test_a_codedeploy_deployment_that_runs_owns_the_listener(house, status):
    codedeploy(house.aws, house.scene, status)
    owner = house.driver.read(house.target).owner
    assert "CodeDeploy" in owner
    assert "shop/blue-green" in owner
    assert status in owner
    with pytest.raises(TargetOwned):
        house.driver.check(house.target)


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Stopped"])
def test_one_that_is_over_owns_nothing(house, status):
    codedeploy(house.aws, house.scene, status)
    assert house.driver.read(house.target).owner is None


def test_one_of_another_listener_owns_nothing_here(house):
    codedeploy(house.aws, house.aws.scene("other"), "InProgress", "other")
    assert house.driver.read(house.target).owner is None


def ecs(aws: Double, scene: Scene, rule: str, status: str) -> None:
    client = aws.client("ecs")
    client.create_cluster(clusterName="main")
    client.register_task_definition(
        family="shop", containerDefinitions=[{"name": "shop", "image": "shop", "memory": 64}]
    )
    config = {
        "alternateTargetGroupArn": scene.green,
        "productionListenerRule": rule,
        "roleArn": "arn:aws:iam::123456789012:role/ecs",
    }
    balancer = {
        "targetGroupArn": scene.blue,
        "containerName": "shop",
        "containerPort": 80,
        "advancedConfiguration": config,
    }
    service = client.create_service(
        cluster="main",
        serviceName="shop",
        taskDefinition="shop",
        desiredCount=1,
        loadBalancers=[balancer],
    )["service"]["serviceArn"]
    aws.tell(
        "ecs",
        deployment=f"arn:aws:ecs:{REGION}:123456789012:service-deployment/main/shop/1",
        serviceArn=service,
        status=status,
    )


def test_an_ecs_deployment_that_runs_owns_the_rule(house):
    ecs(house.aws, house.scene, house.scene.rule, "IN_PROGRESS")
    owner = house.driver.read(house.target).owner
    assert "ECS deployment" in owner
    assert "service-deployment/main/shop/1" in owner
    with pytest.raises(TargetOwned):
        house.set(FIVE)


@pytest.mark.parametrize("status", ["SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL"])
def test_an_ecs_deployment_that_is_over_owns_nothing(house, status):
    ecs(house.aws, house.scene, house.scene.rule, status)
    assert house.driver.read(house.target).owner is None


def test_an_ecs_deployment_of_another_rule_owns_nothing_here(house):
    ecs(house.aws, house.scene, house.aws.scene("other").rule, "IN_PROGRESS")
    assert house.driver.read(house.target).owner is None


def test_an_ecs_deployment_owns_the_default_rule_that_its_listener_may_mean(house):
    ecs(house.aws, house.scene, house.scene.rule, "IN_PROGRESS")
    scene = house.scene
    default = Target.of("alb", scene.listener, canary=scene.green, stable=scene.blue)
    assert "ECS deployment" in house.driver.read(default).owner


def test_who_owns_it_unknown_nothing_is_enlarged_and_a_rollback_goes_ahead(house):
    before = house.set(FIVE)
    house.aws.fault("ListDeployments", "fail", times=20)
    with pytest.raises(TargetUnavailable):
        house.driver.set(house.target, QUARTER, before, NEVER)
    assert house.weights() == {"blue": 19, "green": 1}
    assert house.driver.roll_back(house.target, NEVER).share == 0


def test_looks_of_the_same_moment_ask_codedeploy_once_and_share_its_failure(house):
    other = Target.of(
        "alb", house.scene.listener, canary=house.scene.green, stable=house.scene.blue
    )
    for _ in range(3):
        house.driver.read(house.target)
        house.driver.read(other)
    assert house.aws.calls("ListDeployments") == ["ListDeployments"]
    # Before a write it is asked anew.
    house.set(FIVE)
    assert len(house.aws.calls("ListDeployments")) == 2
    house.driver = AlbDriver(house.aws.aws())
    house.aws.fault("ListDeployments", "fail", times=3)
    for _ in range(2):
        with pytest.raises(TargetUnavailable, match="ServiceUnavailable"):
            house.driver.read(house.target)
    assert len(house.aws.calls("ListDeployments")) == 5


def test_the_health_of_a_canary_that_serves_is_its_guards_matter(house):
    assert house.driver.read(house.target).healthy is True
    house.set(FIVE)
    house.aws.forget_calls()
    assert house.driver.read(house.target).healthy is None
    assert house.aws.calls("DescribeTargetHealth") == []


# --- bad input: refused with the field named, nothing changed -------------------------------------


def bad(house: House, case: str) -> Target:
    scene = house.scene
    targets = {
        "listener of another account": (scene.listener.replace("123456789012", "210987654321"), {}),
        "rule of another account": (scene.rule.replace("123456789012", "210987654321"), {}),
        "listener of another region": (scene.listener.replace(REGION, "eu-north-1"), {}),
        "rule and groups of another region": (scene.rule.replace(REGION, "eu-north-1"), {}),
        "unknown rule": (scene.rule[:-4] + "0000", {}),
        "unknown listener": (scene.listener[:-4] + "0000", {}),
        "no ARN": ("shop", {}),
        "of another service": ("arn:aws:s3:eu-west-1:123456789012:listener/app/a/b/c", {}),
        "network load balancer": (scene.listener.replace("/app/", "/net/"), {}),
        "a load balancer": (scene.balancer, {}),
        "unknown group": (scene.rule, {"canary": scene.green[:-4] + "0000"}),
        "no group": (scene.rule, {"stable": "blue"}),
        "one group": (scene.rule, {"canary": scene.blue}),
        "group elsewhere": (scene.rule, {"canary": scene.green.replace(REGION, "eu-north-1")}),
        "unknown setting": (scene.rule, {"canray": scene.green}),
    }
    name, settings = targets[case]
    groups = {"canary": scene.green, "stable": scene.blue}
    if "another account" in case:
        settings = {k: v.replace("123456789012", "210987654321") for k, v in groups.items()}
    if "groups of another region" in case:
        settings = {k: v.replace(REGION, "eu-north-1") for k, v in groups.items()}
    all_settings: dict[str, Any] = {**groups, **settings}
    return Target.of("alb", name, **all_settings)


@pytest.mark.parametrize(
    ("case", "field"),
    [
        ("listener of another account", "/name"),
        ("rule of another account", "/name"),
        ("listener of another region", "/settings/canary"),
        ("rule and groups of another region", "/name"),
        ("unknown rule", "/name"),
        ("unknown listener", "/name"),
        ("no ARN", "/name"),
        ("of another service", "/name"),
        ("network load balancer", "/name"),
        ("a load balancer", "/name"),
        ("unknown group", "/settings/canary"),
        ("no group", "/settings/stable"),
        ("one group", "/settings/canary"),
        ("group elsewhere", "/settings/canary"),
        ("unknown setting", "/settings/canray"),
    ],
)
def test_bad_input(house, case, field):
    with pytest.raises(Invalid) as refused:
        house.driver.check(bad(house, case))
    assert refused.value.field == field
    assert house.aws.calls("ModifyRule", "ModifyListener") == []
    assert house.weights() == {"blue": 1, "green": 0}


def test_the_default_rules_own_arn_is_not_its_name(house):
    rules = house.elb.describe_rules(ListenerArn=house.scene.listener)["Rules"]
    (default,) = [rule["RuleArn"] for rule in rules if rule["IsDefault"]]
    target = Target.of("alb", default, canary=house.scene.green, stable=house.scene.blue)
    with pytest.raises(Invalid, match="name its listener") as refused:
        house.driver.check(target)
    assert refused.value.field == "/name"


def test_a_sixth_group_is_refused(house):
    others = {house.group(f"other-{number}"): 0 for number in range(4)}
    house.forward({house.scene.blue: 1, **others})
    with pytest.raises(Invalid, match="more than 5") as refused:
        house.driver.check(house.target)
    assert refused.value.field == "/settings/canary"


def test_sticky_targets_without_sticky_groups_are_refused(house):
    house.elb.modify_target_group_attributes(
        TargetGroupArn=house.scene.green,
        Attributes=[{"Key": "stickiness.enabled", "Value": "true"}],
    )
    with pytest.raises(Invalid, match="sticky") as refused:
        house.driver.check(house.target)
    assert refused.value.field == "/settings/canary"


def test_a_canary_without_any_target_is_refused(house):
    house.elb.deregister_targets(TargetGroupArn=house.scene.green, Targets=[{"Id": "10.0.0.1"}])
    with pytest.raises(Conflict, match="no healthy target"):
        house.driver.check(house.target)


# --- by hand --------------------------------------------------------------------------------------


def run_by_hand(house: House, command: str) -> None:
    """Do what `aws elbv2 modify-rule` would."""
    words = shlex.split(command)
    assert words[:3] == ["aws", "elbv2", "modify-rule"]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given["--region"] == REGION
    house.elb.modify_rule(RuleArn=given["--rule-arn"], Actions=json.loads(given["--actions"]))


def test_the_commands_do_what_a_rollback_does(house):
    house.forward({house.scene.blue: 1, house.scene.green: 1}, OIDC, sticky=STICKY)
    run_by_hand(house, house.driver.commands_by_hand(house.target)[0])
    assert house.weights() == {"blue": 1}
    assert house.actions()[0]["Type"] == "authenticate-oidc"


def test_there_are_commands_without_aws_too(house):
    house.forward({house.scene.blue: 1, house.scene.green: 1})
    house.aws.fault("DescribeRules", "fail", times=20)
    note, command, look = house.driver.commands_by_hand(house.target)
    assert note.startswith("#")
    run_by_hand(house, command)
    assert house.weights() == {"blue": 1}
    assert look.startswith("aws elbv2 describe-rules --rule-arns")
