"""`flagserver aws`: for whoever owns the cloud account."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from flagserver import account, findings
from flagserver import alarms as standard_alarms
from flagserver.aws import Arn, Aws, AwsError


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
    looked = account.Account(Aws(), application=application, region=region)
    found = account.examine(looked, time.time, specs)
    click.echo(findings.as_json(found) if as_json else findings.as_text(found))
    if not findings.all_well(found):
        sys.exit(9)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--dimension")
    return name, value
