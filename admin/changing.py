"""How a change of what a flag serves goes: at once where nothing is enlarged, else reviewed; and
never on top of what somebody else changed meanwhile without showing it.
"""

from __future__ import annotations

from typing import Any

from flask import Response, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import flags
from flagserver.domain.commands import StateEdit
from flagserver.domain.errors import ConfirmationRequired, ReasonRequired, StaleRevision
from flagserver.domain.flags import same
from flagserver.domain.times import rfc3339

from . import served
from .forms import Typed, Unusable, build_edit, read_revision
from .interface import Interface, now, principal
from .review import Review, extra_per_hour
from .story import line


class Changing:
    """Carries a change through its pages. All of them send to `flag_share`."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def change(self, key: str, environment: str, command: StateEdit, typed: Typed) -> AnyResponse:
        """Change, review or show that it is stale. Raises Unusable, Invalid, Locked."""
        revision = read_revision(typed)
        plan = self._services.flags.plan(key, environment, command)
        if same(plan.before.state, plan.after):
            return self.done(key, "same", environment)
        if revision != plan.before.revision:
            return self._stale(key, environment, command, typed)
        if plan.enlarges and "reviewed" not in typed.values:
            return self.review(key, environment, command, typed)
        try:
            after = self._services.flags.change(key, environment, command, revision, principal())
        except (ReasonRequired, ConfirmationRequired) as refusal:
            typed.refuse(refusal)
            return self.review(key, environment, command, typed, status=422)
        except StaleRevision:
            return self._stale(key, environment, command, typed)
        return self.done(key, "saved", environment, after.revision)

    def done(self, key: str, word: str, environment: str, revision: int = 0) -> AnyResponse:
        """Go back to the flag, and say what was done."""
        there = url_for("admin.flag", key=key, _anchor=f"in-{environment}")
        return self._ui.go(there, word, environment, revision)

    def review(
        self, key: str, environment: str, command: StateEdit, typed: Typed, status: int = 200
    ) -> Response:
        """Show what an enlargement does, and ask why."""
        plan = self._services.flags.plan(key, environment, command)
        exposure = self._services.outcomes.exposure(environment, key)
        review = Review(
            flag=self._services.flags.get(key).flag,
            environment=self._services.environments.get(environment).environment,
            before=plan.before.state,
            revision=plan.before.revision,
            after=plan.after,
            more=extra_per_hour(plan.before.state, plan.after, exposure),
        )
        there = url_for("admin.flag_share", key=key, environment=environment)
        return self._ui.page(
            "review.html",
            status=status,
            review=review,
            form=typed,
            action=there,
            change=served.written(served.of_command(command)),
        )

    def _stale(self, key: str, environment: str, command: StateEdit, typed: Typed) -> Response:
        flag = self._services.flags.get(key).flag
        latest = self._services.flags.history(key, environment=environment, limit=1)
        view = self._services.flags.state(key, environment)
        mine = flags.change(flag, view.state, command, at=rfc3339(now()))
        return self._ui.page(
            "stale.html",
            status=412,
            flag=flag,
            environment=self._services.environments.get(environment).environment,
            view=view,
            form=typed,
            seen=served.written(served.of_state(view.state)),
            change=served.written(served.of_command(command)),
            differences=served.differences(
                seen(typed), served.of_state(view.state), served.of_state(mine)
            ),
            latest=line(latest[0]) if latest else None,
        )


def seen(typed: Typed) -> dict[str, Any]:
    """Return what was served when the form was made, as far as it says."""
    try:
        return served.read(typed.text("seen") or "{}")
    except ValueError:
        return {}


def read_change(typed: Typed) -> StateEdit:
    """Return the change that a reviewed form, or one that was stale, carries. Raises Unusable."""
    try:
        fields = served.read(typed.text("change"))
    except ValueError:
        typed.errors[""] = "The form does not say what to change. Open the page again."
        raise Unusable from None
    return build_edit(typed, fields)
