"""CloudFormation's templates: right by its own schemas, and saying what is said elsewhere."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from flagserver import bootstrap
from flagserver.alarms import Pair, standard
from flagserver.settings import SECRETS, SETTINGS, Settings
from flagserver.system import SystemClock

from .templates import DEPLOY, TEMPLATES, Stack, read

LINT = Path(sys.executable).with_name("cfn-lint")
ALL = sorted(path.name for path in TEMPLATES.glob("*.yaml"))

BALANCER = "app/shop/50dc6c495c0c9188"
BLUE = "targetgroup/shop-blue/c5e1b0d6f3a94e21"
GREEN = "targetgroup/shop-green/73e2d6bc24d8a067"
PAIR = Pair(BALANCER, (BLUE, GREEN))
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"

CODEDEPLOY = {
    "Name": "shop",
    "Cluster": "main",
    "Service": "web",
    "ProductionListener": "arn:production",
    "TestListener": "arn:test",
    "BlueName": "shop-blue",
    "GreenName": "shop-green",
    "Alarm": "sortition-shop",
    "ServiceRole": "arn:aws:iam::123456789012:role/codedeploy",
}


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    # What would be fetched from somewhere is not: the schemas are within cfn-lint.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    command = [str(LINT), "--", *map(str, files)]
    return subprocess.run(command, env=nowhere, capture_output=True, text=True)


# --- as CloudFormation wants them -----------------------------------------------------------------


def test_cfn_lint_finds_nothing():
    done = lint(*(TEMPLATES / name for name in ALL))

    assert (done.returncode, done.stdout) == (0, "")
    assert len(ALL) == 8


def test_cfn_lint_would_find_something(tmp_path):
    text = (TEMPLATES / "codedeploy.yaml").read_text()
    broken = tmp_path / "codedeploy.yaml"
    broken.write_text(text.replace("CanaryPercentage: 5", "CanaryPercent: 5"))

    done = lint(broken)

    assert done.returncode != 0
    assert "CanaryPercent" in done.stdout


def test_they_are_numbered_in_the_order_in_which_they_are_made():
    order = [read(name)["Description"].split(":")[0] for name in ALL]

    assert sorted(order) == [f"Sortition {n}" for n in range(1, 9)]


@pytest.mark.parametrize("name", ["alarms.yaml", "hook.yaml", "roles.yaml"])
def test_what_is_made_is_up_to_date(name):
    made = runpy.run_path(str(DEPLOY.parent / "scripts" / "deploy-templates"))

    wanted = made["written"](made["MADE"][name]())

    assert (TEMPLATES / name).read_text() == wanted, "run scripts/deploy-templates"


# --- alarms ---------------------------------------------------------------------------------------


def alarms(**parameters: Any) -> dict[str, dict[str, Any]]:
    """Return the bodies of the alarms that the template makes, by name."""
    stack = Stack(read("alarms.yaml"), LoadBalancer=BALANCER, Blue=BLUE, Green=GREEN, **parameters)
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    found = [told for kind in kinds for told in stack.of_type(kind).values()]
    return {told["AlarmName"]: told for told in found}


def test_they_are_the_alarms_of_the_command():
    assert alarms() == {alarm.name: alarm.body for alarm in standard(PAIR)}


def test_they_are_with_a_topic_and_what_a_service_counts_itself():
    wanted = standard(
        PAIR, prefix="x", notify=[TOPIC], namespace="Shop", dimensions={"service": "shop"}
    )

    made = alarms(Prefix="x", Topic=TOPIC, Namespace="Shop", ServiceName="shop")

    assert made == {alarm.name: alarm.body for alarm in wanted}
    assert len(made) == 12


def test_a_composite_is_made_after_what_it_names():
    for parameters in ({}, {"Namespace": "Shop"}):
        stack = Stack(
            read("alarms.yaml"), LoadBalancer=BALANCER, Blue=BLUE, Green=GREEN, **parameters
        )
        (composite,) = (r for r in stack.resources.values() if "Composite" in r["Type"])
        named = {
            told["Properties"]["AlarmName"]
            for name, told in stack.resources.items()
            if name in composite["DependsOn"]
        }
        rule = composite["Properties"]["AlarmRule"]
        assert set(re.findall(r'ALARM\("(.+?)"\)', rule)) == named


# --- CodeDeploy -----------------------------------------------------------------------------------


def lower(value: Any) -> Any:
    """Return CloudFormation's properties as CodeDeploy's API names them."""
    if isinstance(value, list):
        return [lower(each) for each in value]
    if not isinstance(value, dict):
        return value
    special = {"ECSServices": "ecsServices"}
    return {
        special.get(name, name[0].lower() + name[1:]): lower(each) for name, each in value.items()
    }


@pytest.fixture(scope="module")
def model() -> Any:
    client = boto3.client(
        "codedeploy", region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    return client.meta.service_model


def valid(model: Any, operation: str, parameters: Any) -> str:
    shape = model.operation_model(operation).input_shape
    report: str = ParamValidator().validate(parameters, shape).generate_report()
    return report


def test_the_group_and_the_configurations_are_as_codedeploys_own_model_has_them(model):
    stack = Stack(read("codedeploy.yaml"), **CODEDEPLOY)
    (group,) = stack.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    told = lower(group) | {"applicationName": "shop", "deploymentConfigName": "x"}

    assert valid(model, "CreateDeploymentGroup", told) == ""
    for config in stack.of_type("AWS::CodeDeploy::DeploymentConfig").values():
        assert valid(model, "CreateDeploymentConfig", lower(config)) == ""
    assert valid(model, "CreateDeploymentGroup", told | {"alarms": []}) != ""


def test_nothing_goes_on_blind_and_every_failure_goes_back():
    (group,) = (
        Stack(read("codedeploy.yaml"), **CODEDEPLOY)
        .of_type("AWS::CodeDeploy::DeploymentGroup")
        .values()
    )

    assert group["AlarmConfiguration"] == {
        "Enabled": True,
        "IgnorePollAlarmFailure": False,
        "Alarms": [{"Name": "sortition-shop"}],
    }
    assert len(group["AutoRollbackConfiguration"]["Events"]) == 3
    (pair,) = group["LoadBalancerInfo"]["TargetGroupPairInfoList"]
    # One listener for each route is all that CodeDeploy takes.
    assert pair["ProdTrafficRoute"]["ListenerArns"] == ["arn:production"]
    assert pair["TestTrafficRoute"]["ListenerArns"] == ["arn:test"]
    assert [each["Name"] for each in pair["TargetGroups"]] == ["shop-blue", "shop-green"]


# --- the hook's function --------------------------------------------------------------------------


def test_the_function_in_the_template_is_the_one_that_is_tested():
    stack = Stack(
        read("hook.yaml"), Url="https://flags.example", TokenSecret="arn:secret", Role="arn:role"
    )
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    code = function["Code"]["ZipFile"]

    assert code == (DEPLOY / "lambda" / "codedeploy_hook.py").read_text()
    # As text that a person can read, and in ASCII, so that no console breaks it.
    assert "        ZipFile: |\n" in (TEMPLATES / "hook.yaml").read_text()
    assert code.isascii()
    # Lambda calls inline code `index`.
    assert function["Handler"] == "index.handler"
    assert "def handler(event" in code
    assert len(code.encode()) < 4 * 1024 * 1024
    assert set(function["Environment"]["Variables"]) == {"SORTITION_URL", "SORTITION_TOKEN_SECRET"}
    # CodeDeploy's managed role may call nothing else.
    assert function["FunctionName"].startswith("CodeDeployHook_")


def test_the_function_can_run_where_a_private_server_is_reached():
    told = {"Url": "https://flags.example", "TokenSecret": "arn:secret", "Role": "arn:role"}
    (public,) = Stack(read("hook.yaml"), **told).of_type("AWS::Lambda::Function").values()
    private = Stack(read("hook.yaml"), **told, Subnets="subnet-1,subnet-2", SecurityGroups="sg-1")
    (inside,) = private.of_type("AWS::Lambda::Function").values()

    assert "VpcConfig" not in public
    assert inside["VpcConfig"] == {
        "SubnetIds": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
    }


# --- signals --------------------------------------------------------------------------------------


def test_signals_go_to_a_queue_or_to_the_server():
    queue = Stack(read("signals.yaml"))
    server = Stack(read("signals.yaml"), Url="https://flags.example", TokenSecret="arn:secret")

    assert set(queue.resources) == {"Queue", "QueuePolicy", "Deployments", "Alarms"}
    assert set(server.resources) == {
        *("Connection", "Destination", "DestinationRole", "Deployments", "Alarms"),
    }
    (destination,) = server.of_type("AWS::Events::ApiDestination").values()
    assert destination["InvocationEndpoint"] == ("https://flags.example/api/v1/signals/eventbridge")


# --- the server -----------------------------------------------------------------------------------

SERVER = {
    "Image": f"flags@sha256:{'0' * 64}",
    "Cluster": "main",
    "Vpc": "vpc-1",
    "Subnets": "subnet-1",
    "SecurityGroups": "sg-1",
    "WebRole": "arn:web",
    "ControllerRole": "arn:controller",
    "Listener": "arn:listener",
    "Host": "flags.example",
    "BalancerNetworks": "10.0.0.0/24, 10.0.1.0/24",
    "StoreUrl": "arn:store",
    "AdminToken": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:admin",
}
KEYS = ("SORTITION_RECORD_KEY", "SORTITION_PREVIEW_KEY")
OIDC = {
    "OidcIssuer": "https://login.example",
    "OidcClientId": "flags",
    "OidcClientSecret": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:oidc",
    "OidcRoles": "platform=admin, *=viewer",
    "OidcDomains": "shop.example",
    "EgressHosts": "login.example",
}
ALB = {
    "AlbIssuer": "https://login.example",
    "AlbClientId": "balancer",
    "AlbClientSecret": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:alb",
    "AlbAuthorizationEndpoint": "https://login.example/authorize",
    "AlbTokenEndpoint": "https://login.example/token",
    "AlbUserInfoEndpoint": "https://login.example/me",
    "AlbSigner": f"arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/{BALANCER}",
    "AlbRoles": "platform=admin",
    "EgressHosts": "public-keys.auth.elb.eu-west-1.amazonaws.com",
}


def containers(**parameters: Any) -> dict[str, dict[str, Any]]:
    """Return the containers of the server's tasks, by name."""
    tasks = Stack(read("server.yaml"), **SERVER, **parameters).of_type("AWS::ECS::TaskDefinition")
    return {each["Name"]: each for task in tasks.values() for each in task["ContainerDefinitions"]}


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a container, with a stand-in for what a secret holds."""
    told = {each["Name"]: str(each["Value"]) for each in container["Environment"]}
    return told | {each["Name"]: "hush" for each in container["Secrets"]}


@pytest.mark.parametrize("ways", [{}, OIDC, ALB, OIDC | ALB], ids=["none", "oidc", "alb", "both"])
def test_a_server_starts_by_the_settings_of_its_template(ways: dict[str, str]) -> None:
    hosts = {"EgressHosts": f"{OIDC['EgressHosts']}, {ALB['EgressHosts']}"}
    for container in containers(**(ways | hosts)).values():
        settings = Settings.read(environment(container))
        egress, clock = bootstrap.open_egress(settings), SystemClock()
        by_oidc = container["Name"] == "web" and "OidcIssuer" in ways
        by_alb = container["Name"] == "web" and "AlbIssuer" in ways

        assert (bootstrap.open_provider(settings, egress, clock) is not None) is by_oidc
        assert (bootstrap.open_header(settings, egress, clock) is not None) is by_alb
        assert settings.url == "https://flags.example"


def test_keys_go_to_who_signs_with_them() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
    plain, signed = containers(), containers(RecordKey=f"{arn}:a", PreviewKey=f"{arn}:b")

    assert not {*environment(plain["web"]), *environment(plain["controller"])} & {*KEYS}
    assert {*environment(signed["web"])} & {*KEYS} == {"SORTITION_PREVIEW_KEY"}
    assert {*environment(signed["controller"])} & {*KEYS} == {"SORTITION_RECORD_KEY"}


def test_no_admin_token_is_printed_into_the_log() -> None:
    """Where the operator brings none the first process prints one, which is good for ever."""
    template = read("server.yaml")
    assert "Default" not in template["Parameters"]["AdminToken"]
    web, controller = containers()["web"], containers()["controller"]

    assert {"Name": "SORTITION_ADMIN_TOKEN", "ValueFrom": SERVER["AdminToken"]} in web["Secrets"]
    assert "SORTITION_ADMIN_TOKEN" not in environment(controller)
    (role,) = Stack(template, **SERVER).of_type("AWS::IAM::Role").values()
    (policy,) = role["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert SERVER["AdminToken"] in statement["Resource"]


def test_every_setting_of_signing_in_has_a_parameter() -> None:
    given = environment(containers(**(OIDC | ALB))["web"])
    wanted = {name for name in SETTINGS if re.match(r"SORTITION_(OIDC|ALB)_", name)}

    assert {name for name in wanted if not name.endswith("_FILE")} <= set(given)


def test_no_secret_stands_in_a_task() -> None:
    for container in containers(**OIDC).values():
        assert not {each["Name"] for each in container["Environment"]} & {*SECRETS}
        assert container["ReadonlyRootFilesystem"] is True


def test_the_load_balancer_asks_at_one_address_and_before_the_rest() -> None:
    plain = Stack(read("server.yaml"), **SERVER)
    asking = Stack(read("server.yaml"), **SERVER, **ALB)
    kind = "AWS::ElasticLoadBalancingV2::ListenerRule"

    assert set(plain.of_type(kind)) == {"Everything"}
    rules = asking.of_type(kind)
    (asked, forwarded) = rules["SignIn"]["Actions"]
    assert asked["Type"] == "authenticate-oidc"
    assert "{{resolve:secretsmanager:" in asked["AuthenticateOidcConfig"]["ClientSecret"]
    assert forwarded["Type"] == "forward"
    paths = [each for each in rules["SignIn"]["Conditions"] if each["Field"] == "path-pattern"]
    assert paths[0]["PathPatternConfig"]["Values"] == ["/sign-in/alb"]
    assert rules["SignIn"]["Priority"] < rules["Everything"]["Priority"]
