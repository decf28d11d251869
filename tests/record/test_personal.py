"""Nothing of people stands in the record: not in reasons, not in other words, not as who acts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from flagserver.domain import commands, hook_commands, rollout_commands, schedule_commands
from flagserver.domain.commands import Command, NewFlag, Reasoned, checked_reason
from flagserver.domain.errors import Invalid
from tests.builders import ADMIN
from tests.engines import Engine

PERSONAL = ["ask ada@example.org", "call +49 30 1234567", "ada@x", "+493012345678"]
HARMLESS = ["5 % @ noon", "ticket 493012345678", "+5 % for a day", "see PR #12"]
MODULES = (commands, rollout_commands, schedule_commands, hook_commands)


def with_reasons() -> list[type[BaseModel]]:
    """Every body that may say why."""
    found = {
        each
        for module in MODULES
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Command) and "reason" in each.model_fields
    }
    return sorted(found, key=lambda each: each.__name__)


@pytest.mark.parametrize("model", with_reasons(), ids=lambda each: each.__name__)
def test_no_reason_is_long_or_tells_of_people(model: type[BaseModel]):
    for reason in (*PERSONAL, "x" * 201):
        with pytest.raises(ValidationError) as refused:
            model.model_validate({"reason": reason})
        at = [error["loc"] for error in refused.value.errors()]
        assert ("reason",) in at


@pytest.mark.parametrize("reason", HARMLESS)
def test_what_only_looks_a_little_like_it_passes(reason: str):
    assert Reasoned(reason=reason).reason == checked_reason(reason) == reason


@pytest.mark.parametrize("reason", [*PERSONAL, "x" * 201, " "])
def test_a_reason_that_comes_by_the_operators_command_is_looked_at_too(reason: str):
    with pytest.raises(Invalid) as refused:
        checked_reason(reason)
    assert refused.value.field == "/reason"
    assert reason.strip() not in refused.value.detail or not reason.strip()


@pytest.mark.parametrize("field", ["description", "owner"])
def test_words_that_the_record_keeps_are_looked_at_too(field: str):
    with pytest.raises(ValidationError, match="must not hold an e-mail address"):
        NewFlag.model_validate({"key": "new-search", field: PERSONAL[0]})


def test_whoever_acts_is_an_opaque_id(tmp_path: Path):
    engine = Engine(directory=tmp_path)
    sessions = engine.services.sessions
    id = engine.start()
    sessions.sign_in(sessions.make_link())
    engine.run(60)
    engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    engine.run(60)

    links = engine.store.record(limit=10**6)
    told: list[Any] = [json.loads(link.canonical or b"{}") for link in links]

    opaque = r"(token|person):[0-9a-f]+"
    others = {entry["actor"] for entry in told} - {"controller", "installation", ADMIN.id}
    assert others
    for actor in others:
        assert re.fullmatch(opaque, actor), actor
