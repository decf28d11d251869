"""The command's root: where the server is, who asks, and how to print."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .api import Api, Failure
from .approvals import approvals
from .audit import audit
from .completion import completion
from .doctor import doctor, status
from .drill import drill
from .env import env
from .flags import flags
from .linting import lint_command
from .neutrality import neutrality
from .reviewing import review
from .rollouts import rollouts
from .schedules import schedules
from .token import token
from .user import user
from .verifying import verify

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP)
@click.version_option(package_name="sortition", prog_name="sortition")
@click.option("--url", envvar="SORTITION_URL", help="The server.  [SORTITION_URL]")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the token; else SORTITION_TOKEN.",
)
@click.option("--timeout", default=10.0, show_default=True, help="Seconds for one answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.  [SORTITION_OUTPUT=json]")
@click.pass_context
def cli(
    context: click.Context,
    url: str | None,
    token_file: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Sortition: feature flags drawn by lot, ramped and taken back."""
    if os.environ.get("SORTITION_OUTPUT") == "json":
        context.params["as_json"] = True
    token = os.environ.get("SORTITION_TOKEN", "")
    if token_file is not None:
        try:
            token = token_file.read_text().strip()
        except (OSError, UnicodeError) as error:
            raise Failure(f"--token-file: {error}") from None
    # A test may have put a server of its own here.
    if context.find_object(Api) is None:
        context.obj = Api((url or "").rstrip("/"), token.strip(), timeout)


for command in (
    *(flags, rollouts, schedules, env, token, user, status, doctor, completion),
    *(approvals, audit, drill, lint_command, neutrality, review, verify),
):
    cli.add_command(command)
