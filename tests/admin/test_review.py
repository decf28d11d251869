"""The review's page: figures, concerns, and marking without scripts."""

from __future__ import annotations

from flagserver.domain.commands import Reasoned
from flagserver.domain.rollout_commands import NewRollout

from .house import ANA, House, Visitor


def rolled_back(house: House, reason: str = "by hand") -> str:
    house.flag("new-search")
    body = {
        "environment": "staging",
        "service": "shop",
        "schedule": "5%:5m,100%",
        "guards": "none",
        "targets": [{"kind": "flag", "name": "new-search"}],
    }
    id = house.services.rollouts.start(NewRollout.model_validate(body), ANA).rollout.id
    house.services.rollouts.roll_back(id, Reasoned(reason=reason), ANA)
    return id


def test_nothing_ended_yet(visitor: Visitor) -> None:
    text = visitor.see("/review").text

    assert "No rollout ended in this time." in text
    assert "Success –" in text


def test_figures_say_what_is_missed_and_which_rollouts(house: House, visitor: Visitor) -> None:
    id = rolled_back(house, "it is <b>slow</b>")

    page = visitor.see("/review?days=7")

    assert "0 of 1 reached their last share: less than 98 % : " + id in page.text
    assert "by a person: it is <b>slow</b>" in page.text
    assert "1 rollback that nobody has looked at" in page.text
    assert "<b>slow" not in page.source
    assert id not in visitor.see("/review?env=production").text


def test_marking_is_one_button_and_stands_in_the_record(house: House, visitor: Visitor) -> None:
    id = rolled_back(house)
    page = visitor.see("/review")
    assert "False alarm" not in page.text  # a person took it back

    marked = visitor.send(page, f"/review/{id}", mark="missed")

    assert "Noted, and it stands in the record." in marked.text
    assert "1 that went wrong and nothing took back by itself" in marked.text
    taken = visitor.send(marked, f"/review/{id}", mark="")
    assert "Taken back." in taken.text
    assert visitor.send(page, f"/review/{id}", mark="false").status == 409


def test_whoever_only_looks_cannot_mark(house: House) -> None:
    rolled_back(house)

    page = house.visitor(role="viewer").see("/review")

    assert page.status == 200
    assert "Missed</button>" not in page.source
