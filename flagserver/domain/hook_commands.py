"""What an engine's hook may ask, and what an event bus may tell; checked field by field."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from .commands import Command


class CodeDeployHook(Command):
    """A lifecycle hook of CodeDeploy, as its function is called with: which deployment asks, and
    the id of its question. Which hook it is, CodeDeploy is asked."""

    deployment: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"),
        Field(examples=["d-7CMGXZ9DN"]),
    ]
    execution: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,2000}$")]
