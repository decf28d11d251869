"""What an engine's hook may ask, and what an event bus may tell; checked field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from .commands import Command
from .pushed import Pushed, read


class CodeDeployHook(Command):
    """A lifecycle hook of CodeDeploy, as its function is called with: which deployment asks, and
    the id of its question. Which hook it is, CodeDeploy is asked."""

    deployment: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"),
        Field(examples=["d-7CMGXZ9DN"]),
    ]
    execution: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,2000}$")]


class EventBridgeEvent(BaseModel):
    """An event as EventBridge sends it; what is not named here is not looked at."""

    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=True)

    id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]
    source: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    detail_type: Annotated[
        str, StringConstraints(min_length=1, max_length=200), Field(alias="detail-type")
    ]
    time: datetime = Field(strict=False)
    detail: dict[str, JsonValue] = Field(default_factory=dict)

    def pushed(self) -> Pushed | None:
        """Return it as it is understood, None for one that is not known here."""
        return read(self.id, self.source, self.detail_type, self.time, self.detail)
