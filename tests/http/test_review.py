"""`/api/v1/review`: figures of what ended, and what people say of it."""

from __future__ import annotations

from .api import WHY, Api

REVIEW = "/api/v1/review"


def rolled_back(api: Api) -> str:
    api.flag("new-search")
    body = WHY | {
        "environment": "production",
        "service": "shop",
        "schedule": "5%:5m,100%",
        "guards": "none",
        "targets": [{"kind": "flag", "name": "new-search"}],
    }
    id = str(api.admin.post("/api/v1/rollouts", body).json["id"])
    done = api.admin.post(f"/api/v1/rollouts/{id}/rollback", {"reason": "by hand"})
    assert done.status == 200, done.text
    return id


def test_figures_and_rollouts_are_read(api: Api) -> None:
    id = rolled_back(api)

    found = api.admin.get(REVIEW).json

    assert (found["success"], found["rolled_back"], found["automatic"]) == (0.0, 1, 0)
    assert [each["kind"] for each in found["concerns"]] == ["success"]
    (run,) = found["rollouts"]
    assert (run["id"], run["state"], run["mark"]) == (id, "rolled_back", None)
    assert found["since"] < found["until"]


def test_a_mark_is_kept_and_shown(api: Api) -> None:
    id = rolled_back(api)

    marked = api.admin.send("PUT", f"{REVIEW}/{id}", {"mark": "missed", "reason": "users told us"})

    assert (marked.status, marked.json["mark"]) == (200, "missed")
    assert api.admin.get(REVIEW).json["missed"] == [id]


def test_what_cannot_be_said_is_refused(api: Api) -> None:
    id = rolled_back(api)

    false = api.admin.send("PUT", f"{REVIEW}/{id}", {"mark": "false"})
    unknown = api.admin.send("PUT", f"{REVIEW}/{id}", {"mark": "great"})
    nobody = api.admin.send("PUT", f"{REVIEW}/r-none", {"mark": "right"})

    assert (false.status, false.json["code"]) == (409, "conflict")
    assert unknown.status == 422
    assert nobody.status == 404


def test_a_token_of_one_environment_sees_and_marks_only_that(api: Api) -> None:
    id = rolled_back(api)
    staging = api.deploy("staging")

    assert staging.get(REVIEW).json["rollouts"] == []
    assert staging.get(f"{REVIEW}?environment=production").status == 403
    assert staging.send("PUT", f"{REVIEW}/{id}", {"mark": "right"}).status == 403


def test_days_have_bounds(api: Api) -> None:
    assert api.admin.get(f"{REVIEW}?days=0").status == 422
    assert api.admin.get(f"{REVIEW}?days=91").status == 422
