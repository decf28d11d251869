"""`flagserver aws`: for whoever owns the cloud account."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from flagserver import account, checkreport, findings, inventory
from flagserver import alarms as standard_alarms
from flagserver import check as checks
from flagserver.aws import Arn, Aws, AwsError
from flagserver.checkstack import PREFIX, Place, Stack


@click.group()
def aws() -> None:
    """What Sortition needs at AWS. Region and credentials are found as the AWS CLI finds them."""


@aws.command()
@click.argument("first", metavar="TARGET_GROUP")
@click.argument("second", metavar="OTHER_TARGET_GROUP")
@click.option("--load-balancer", help="Its ARN, if AWS is not to be asked for it.")
@click.option("--prefix", default="sortition", show_default=True, help="How the names begin.")
@click.option("--notify", multiple=True, metavar="ARN", help="Whom the composite alarm tells.")
@click.option("--namespace", help="Where you publish what your service counts itself.")
@click.option("--dimension", multiple=True, metavar="NAME=VALUE", help="Of those metrics.")
@click.option("--create", is_flag=True, help="Make them; without it they are only printed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def alarms(
    first: str,
    second: str,
    load_balancer: str | None,
    prefix: str,
    notify: tuple[str, ...],
    namespace: str | None,
    dimension: tuple[str, ...],
    create: bool,
    as_json: bool,
) -> None:
    """Print the standard alarms of a blue/green pair, or make them with --create.

    The arguments are the ARNs of the two target groups. Making them again brings them up to date.
    """
    dimensions = dict(_pair(text) for text in dimension)
    session = Aws()
    try:
        pair = standard_alarms.pair_of(session, first, second, load_balancer)
        region = Arn.parse(first).region
        wanted = standard_alarms.standard(
            pair, prefix=prefix, notify=notify, namespace=namespace, dimensions=dimensions
        )
        if create:
            standard_alarms.create(session, wanted, region)
    except (AwsError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        bodies = [{"kind": alarm.kind, **alarm.body} for alarm in wanted]
        click.echo(json.dumps({"created": create, "region": region, "alarms": bodies}))
        return
    for alarm in wanted:
        click.echo(f"{'made' if create else '#'} {alarm.name}: {alarm.says}")
        if not create:
            click.echo(alarm.command(region))


@aws.command()
@click.option("--application", help="Only this application of CodeDeploy.")
@click.option("--region", help="Where, if not in the region of the environment.")
@click.option(
    "--appspec",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An AppSpec file to look at besides; any number.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    application: str | None, region: str | None, files: tuple[Path, ...], as_json: bool
) -> None:
    """Look at the account for what stands against a rollout; exit status 9 when something does.

    It reads and changes nothing. Run it with the controller's credentials to learn what those lack.
    """
    specs = {str(file): file.read_text(errors="replace") for file in files}
    looked = inventory.Account(Aws(), application=application, region=region)
    found = account.examine(looked, time.time, specs)
    click.echo(findings.as_json(found) if as_json else findings.as_text(found))
    if not findings.all_well(found):
        sys.exit(9)


@aws.command()
@click.argument("number", metavar="ACCOUNT")
@click.option("--cluster", required=True, help="An ECS cluster that is there, with Fargate.")
@click.option("--subnet", "subnets", multiple=True, help="Two, of two zones of one VPC.")
@click.option("--security-group", default="", help="Lets port 80 in from itself, and all out.")
@click.option("--codedeploy-role", default="", metavar="ARN", help="CodeDeploy's service role.")
@click.option(
    "--image",
    default="public.ecr.aws/nginx/nginx:stable",
    show_default=True,
    help="Answers 200 at / on port 80.",
)
@click.option("--public-ip", is_flag=True, help="For subnets without a NAT gateway.")
@click.option("--region", help="Where, if not in the region of the environment.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where the report goes: .json, or Markdown; without it it is printed.",
)
@click.option("--tear-down", metavar="NAME", help="Only take down what a check of that name left.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would be done is said.")
def check(
    number: str,
    region: str | None,
    report: Path | None,
    tear_down: str | None,
    yes: bool,
    **at: Any,
) -> None:
    """Find out in ACCOUNT what AWS really does: make a small stack, roll out, break, take it down.

    Takes half an hour to an hour, and costs a load balancer and up to two of Fargate's smallest
    tasks for that long. ACCOUNT, twelve digits, must be the one of the credentials: use one that
    may break. Everything is named sortition-check-… and is taken down whatever happens; exit
    status 9 when it was cut short, or something is left.
    """
    session = Aws()
    name = tear_down or f"{PREFIX}{secrets.token_hex(3)}"
    if not name.startswith(PREFIX) or name == PREFIX:
        raise click.BadParameter(f"Names begin {PREFIX}", param_hint="--tear-down")
    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"{report.parent} is no directory.", param_hint="--report")
    try:
        where = region or session.region
        if where is None:
            raise click.UsageError("Say in which region: --region.")
        if not tear_down:
            _check_place(at)
        if session.account() != number:
            raise click.ClickException(
                f"These credentials are of account {session.account()}, not {number}: nothing was "
                "made."
            )
    except AwsError as error:
        raise click.ClickException(str(error)) from None
    place = Place(
        region=where,
        cluster=at["cluster"],
        subnets=at["subnets"],
        security_group=at["security_group"],
        role=at["codedeploy_role"],
        image=at["image"],
        public=at["public_ip"],
    )
    does = "take down" if tear_down else "make, and take down again,"
    click.echo(
        f"{'To' if yes else 'With --yes: to'} {does} {name} in account {number}, {where}: a load "
        "balancer, two target groups, a service of one task, an application of CodeDeploy, alarms.",
        err=True,
    )
    if not yes:
        raise click.UsageError("Nothing was done. Say --yes to do it.")
    stack = Stack(session, place, name)
    if tear_down:
        left = stack.tear_down(time.sleep)
        click.echo("\n".join(left) or "Everything was taken down.")
        sys.exit(9 if left else 0)
    click.echo(f"If this is killed: the same with --tear-down {name}", err=True)
    found = checkreport.Report(name, number, where, time.time(), say=_say)
    _find_out(stack, found, report)


def _find_out(stack: Stack, found: checkreport.Report, to: Path | None) -> NoReturn:
    """Run a check, and write its report whatever happened."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        checks.run(stack, found, time.time, time.sleep)
    except KeyboardInterrupt:
        pass
    finally:
        as_json = to is not None and to.suffix == ".json"
        text = checkreport.as_json(found) if as_json else checkreport.as_markdown(found)
        if to is None:
            click.echo(text)
        else:
            to.write_text(text)
    sys.exit(0 if found.well else 9)


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


def _check_place(at: dict[str, Any]) -> None:
    if len(at["subnets"]) < 2:
        raise click.UsageError("Two subnets are needed: --subnet … --subnet ….")
    for option in ("security_group", "codedeploy_role"):
        if not at[option]:
            raise click.UsageError(f"--{option.replace('_', '-')} is needed.")


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--dimension")
    return name, value
