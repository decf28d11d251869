"""Who is let in where: every route of the API and every address of the pages, written by hand.

Nothing here is asked of the code under test, so that a route whose declaration, view or service
checks the wrong thing is found. Whoever adds a route writes its line, from what it is to be for.

Everything that the requests are about is in production.

    yes      let in        -        refused
    public   needs nobody to be signed in, and no token
    ticket   opened by what stands in its address
"""

from __future__ import annotations

TOKENS = (
    *("sdk here", "sdk there", "deploy here", "deploy there"),
    *("admin everywhere", "admin here", "admin there"),
)
"""The columns of API: tokens by scope, and where: here is production, there is staging."""

API = """
#                                                              sdk        deploy     admin
#                                                              here there here there all here there
GET    /healthz                                                public
GET    /readyz                                                 public
GET    /openapi.json                                           public
GET    /ofrep/v1/events                                        ticket

GET    /api/v1/status                                          yes  yes   yes  yes   yes yes  yes

GET    /api/v1/sdk/snapshot                                    yes  yes   -    -     -   -    -
GET    /api/v1/sdk/stream                                      yes  yes   -    -     -   -    -
POST   /api/v1/sdk/outcomes                                    yes  yes   -    -     -   -    -
POST   /ofrep/v1/evaluate/flags/{key}                          yes  yes   -    -     -   -    -
POST   /ofrep/v1/evaluate/flags                                yes  yes   -    -     -   -    -

GET    /api/v1/flags                                           -    -     yes  yes   yes yes  yes
GET    /api/v1/flags/{key}                                     -    -     yes  yes   yes yes  yes
GET    /api/v1/flags/{key}/history                             -    -     yes  yes   yes yes  yes
GET    /api/v1/flags/{key}/environments/{environment}          -    -     yes  -     yes yes  -
GET    /api/v1/flags/{key}/environments/{environment}/outcomes -    -     yes  -     yes yes  -
POST   /api/v1/flags/{key}/environments/{environment}/eval     -    -     yes  -     yes yes  -
PATCH  /api/v1/flags/{key}/environments/{environment}          -    -     yes  -     yes yes  -
POST   /api/v1/flags/{key}/environments/{environment}/kill     -    -     yes  -     yes yes  -
POST   /api/v1/flags/{key}/environments/{environment}/unkill   -    -     yes  -     yes yes  -
POST   /api/v1/flags                                           -    -     -    -     yes -    -
PATCH  /api/v1/flags/{key}                                     -    -     -    -     yes -    -
GET    /api/v1/neutrality/{key}                                -    -     yes  yes   yes yes  yes

GET    /api/v1/environments                                    -    -     yes  yes   yes yes  yes
GET    /api/v1/environments/{environment}                      -    -     yes  -     yes yes  -
POST   /api/v1/environments                                    -    -     -    -     yes -    -
PATCH  /api/v1/environments/{environment}                      -    -     -    -     yes -    -

GET    /api/v1/schedules                                       -    -     yes  yes   yes yes  yes
GET    /api/v1/schedules/{environment}/{schedule}              -    -     yes  -     yes yes  -
PUT    /api/v1/schedules/{environment}/{schedule}              -    -     -    -     yes yes  -

GET    /api/v1/tokens                                          -    -     -    -     yes -    -
POST   /api/v1/tokens                                          -    -     -    -     yes -    -
POST   /api/v1/tokens/{id}/rotate                              -    -     -    -     yes -    -
DELETE /api/v1/tokens/{id}                                     -    -     -    -     yes -    -

GET    /api/v1/people                                          -    -     -    -     yes -    -
POST   /api/v1/people                                          -    -     -    -     yes -    -
GET    /api/v1/people/{person}                                 -    -     -    -     yes -    -
PATCH  /api/v1/people/{person}                                 -    -     -    -     yes -    -
POST   /api/v1/people/{person}/invite                          -    -     -    -     yes -    -
POST   /api/v1/people/{person}/end                             -    -     -    -     yes -    -
POST   /api/v1/people/{person}/forget                          -    -     -    -     yes -    -

GET    /api/v1/rollouts                                        -    -     yes  yes   yes yes  yes
GET    /api/v1/rollouts/{id}                                   -    -     yes  -     yes yes  -
GET    /api/v1/rollouts/{id}/evidence                          -    -     yes  -     yes yes  -
GET    /api/v1/rollouts/{id}/evidence/series                   -    -     yes  -     yes yes  -
GET    /api/v1/rollouts/{id}/drill                             -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/plan                                   -    -     yes  -     yes yes  -
POST   /api/v1/rollouts                                        -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/start                             -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/hold                              -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/resume                            -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/advance                           -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/approve                           -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/notes                            -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/heartbeat                         -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/drill                             -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/sync                              -    -     yes  -     yes yes  -
POST   /api/v1/rollouts/{id}/rollback                          -    -     yes  -     yes yes  -
GET    /api/v1/approvals                                       -    -     yes  yes   yes yes  yes
GET    /api/v1/approvals/{id}                                  -    -     yes  -     yes yes  -
POST   /api/v1/approvals/{id}/withdraw                         -    -     yes  -     yes yes  -
GET    /api/v1/review                                          -    -     yes  yes   yes yes  yes
PUT    /api/v1/review/{id}                                     -    -     yes  -     yes yes  -

POST   /api/v1/hooks/codedeploy                                -    -     yes  -     yes yes  -
POST   /api/v1/signals/eventbridge                             -    -     yes  yes   yes yes  yes
POST   /api/v1/metrics                                         -    -     yes  -     yes yes  -
GET    /metrics                                                -    -     -    -     yes -    -

GET    /api/v1/audit                                           -    -     yes  yes   yes yes  yes
GET    /api/v1/audit/checkpoint                                -    -     yes  yes   yes yes  yes
GET    /api/v1/audit/status                                    -    -     yes  yes   yes yes  yes
GET    /api/v1/audit/export                                    -    -     -    -     yes -    -
GET    /api/v1/audit/state                                     -    -     -    -     yes -    -
GET    /api/v1/audit/proof                                     -    -     -    -     yes -    -
POST   /api/v1/audit/acknowledge                               -    -     -    -     yes -    -

DELETE /api/v1/schedules/{environment}/{schedule}              -    -     -    -     yes yes  -
POST   /api/v1/flags/{key}/archive                             -    -     -    -     yes -    -
POST   /api/v1/flags/{key}/unarchive                           -    -     -    -     yes -    -
"""

SESSIONS = (
    *("viewer", "responder", "editor", "releaser", "auditor", "admin"),
    *("admin here", "admin there"),
)
"""The columns of PAGES: people by their role everywhere; of the last two, who are viewers else, by
their role in one environment."""

PAGES = """
#                                                            view.     edit.     audit.    admin
#                                                                 resp.     rel.      adm. here th.
GET    /sign-in                                              public
POST   /sign-in                                              public
GET    /sign-in/<secret>                                     public
POST   /sign-in/<secret>                                     public
GET    /sign-in/oidc                                         public
GET    /sign-in/oidc/callback                                public
GET    /sign-in/alb                                          public
GET    /invitation/<secret>                                  public
POST   /invitation/<secret>                                  public
GET    /assets/<hashed>                                      public

GET    /                                                     yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/overview                                          yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/strip                                             yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/trouble                                           yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/events                                            yes  yes  yes  yes  yes  yes  yes  yes
GET    /health                                               yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/health                                            yes  yes  yes  yes  yes  yes  yes  yes
GET    /help                                                 yes  yes  yes  yes  yes  yes  yes  yes
GET    /help/<path:path>                                     yes  yes  yes  yes  yes  yes  yes  yes
GET    /<page_path:path>                                     404  404  404  404  404  404  404  404
POST   /theme                                                yes  yes  yes  yes  yes  yes  yes  yes

GET    /flags                                                yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/flags                                             yes  yes  yes  yes  yes  yes  yes  yes
GET    /flags/<key>                                          yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/flags/<key>                                       yes  yes  yes  yes  yes  yes  yes  yes
GET    /flags/<key>/environments/<environment>/serving       yes  yes  yes  yes  yes  yes  yes  yes
GET    /flags/<key>/environments/<environment>/kill          yes  yes  yes  yes  yes  yes  yes  yes
GET    /flags/<key>/environments/<environment>/unkill        yes  yes  yes  yes  yes  yes  yes  yes
GET    /flags/<key>/environments/<environment>/preview       yes  yes  yes  yes  yes  yes  yes  yes
POST   /flags/<key>/environments/<environment>/share         -    -    yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/serving       -    -    yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/undo          -    -    yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/preview       -    -    yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/preview/<id>/revoke
                                                             -    yes  yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/kill          -    yes  yes  yes  -    yes  yes  -
POST   /flags/<key>/environments/<environment>/unkill        -    -    -    yes  -    yes  yes  -
GET    /flags/new                                            yes  yes  yes  yes  yes  yes  yes  yes
POST   /flags/new                                            -    -    yes  yes  -    yes  -    -
GET    /flags/<key>/edit                                     yes  yes  yes  yes  yes  yes  yes  yes
POST   /flags/<key>/edit                                     -    -    yes  yes  -    yes  -    -
GET    /flags/<key>/archive                                  yes  yes  yes  yes  yes  yes  yes  yes

GET    /neutrality                                           yes  yes  yes  yes  yes  yes  yes  yes
GET    /neutrality/<key>                                     yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/neutrality/<key>                                  yes  yes  yes  yes  yes  yes  yes  yes

GET    /rollouts                                             yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/rollouts                                          yes  yes  yes  yes  yes  yes  yes  yes
GET    /rollouts/<id>                                        yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/rollouts/<id>                                     yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/rollouts/<id>/story                               yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/rollouts/<id>/charts                              yes  yes  yes  yes  yes  yes  yes  yes
GET    /ui/rollouts/<id>/differences                         yes  yes  yes  yes  yes  yes  yes  yes
GET    /rollouts/<id>/rollback                               yes  yes  yes  yes  yes  yes  yes  yes
GET    /rollouts/<id>/<verb>                                 -    -    -    yes  -    yes  yes  -
POST   /rollouts/<id>/<verb>                                 -    -    -    yes  -    yes  yes  -
GET    /rollouts/new                                         yes  yes  yes  yes  yes  yes  yes  yes
POST   /rollouts/new                                         yes  yes  yes  yes  yes  yes  yes  yes
POST   /rollouts/start                                       -    -    -    yes  -    yes  yes  -
POST   /rollouts/<id>/note                                   -    yes  yes  yes  -    yes  yes  -
POST   /rollouts/<id>/hold                                   -    yes  yes  yes  -    yes  yes  -
POST   /rollouts/<id>/rollback                               -    yes  yes  yes  -    yes  yes  -
GET    /approvals                                            yes  yes  yes  yes  yes  yes  yes  yes
GET    /approvals/<id>                                       yes  yes  yes  yes  yes  yes  yes  yes
POST   /approvals/<id>/withdraw                              -    yes  yes  yes  -    yes  yes  -
POST   /approvals/<id>/approve                               -    -    -    yes  -    yes  yes  -
GET    /review                                               yes  yes  yes  yes  yes  yes  yes  yes
POST   /review/<id>                                          -    yes  yes  yes  -    yes  yes  -

GET    /audit                                                yes  yes  yes  yes  yes  yes  yes  yes
GET    /audit/<int:seq>                                      yes  yes  yes  yes  yes  yes  yes  yes
GET    /audit/<int:seq>/proof                                -    -    -    -    yes  yes  -    -
POST   /audit/verify                                         -    -    -    -    yes  yes  -    -
GET    /audit/acknowledge                                    -    -    -    -    -    yes  -    -
POST   /audit/acknowledge                                    -    -    -    -    -    yes  -    -

GET    /settings                                             yes  yes  yes  yes  yes  yes  yes  yes
GET    /settings/environments                                yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/environments                                -    -    -    -    -    yes  -    -
GET    /settings/environments/<key>                          yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/environments/<key>                          -    -    -    -    -    yes  -    -
GET    /settings/schedules                                   yes  yes  yes  yes  yes  yes  yes  yes
GET    /settings/schedules/new                               yes  yes  yes  yes  yes  yes  yes  yes
GET    /settings/schedules/<environment>/<name>              yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/schedules                                   -    -    -    -    -    yes  yes  -
POST   /settings/schedules/<environment>/<name>/delete       -    -    -    -    -    yes  yes  -
GET    /settings/tokens                                      yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/tokens                                      -    -    -    -    -    yes  -    -
GET    /settings/tokens/<id>/revoke                          -    -    -    -    -    yes  -    -
POST   /settings/tokens/<id>/revoke                          -    -    -    -    -    yes  -    -
GET    /settings/notifications                               yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/notifications/<name>/test                   -    -    -    -    -    yes  -    -
GET    /settings/people                                      yes  yes  yes  yes  yes  yes  yes  yes
POST   /settings/people                                      -    -    -    -    -    yes  -    -
GET    /settings/people/<id>                                 -    -    -    -    -    yes  -    -
POST   /settings/people/<id>                                 -    -    -    -    -    yes  -    -
POST   /settings/people/<id>/invite                          -    -    -    -    -    yes  -    -
POST   /settings/people/<id>/end                             -    -    -    -    -    yes  -    -
POST   /settings/people/<id>/forget                          -    -    -    -    -    yes  -    -

GET    /account                                              yes  yes  yes  yes  yes  yes  yes  yes
POST   /account                                              yes  yes  yes  yes  yes  yes  yes  yes
POST   /flags/<key>/archive                                  -    -    yes  yes  -    yes  -    -
POST   /sign-out                                             yes  yes  yes  yes  yes  yes  yes  yes
"""


def lines(table: str) -> dict[tuple[str, str], list[str]]:
    """Return (method, path) -> what its line says, in the table's order. The cells of a long path
    stand below it."""
    joined = table.replace("\n" + " " * 20, " ")
    told = [line.split() for line in joined.splitlines() if line and not line.startswith("#")]
    found = {(method, path): cells for method, path, *cells in told}
    assert len(found) == len(told), "a route has two lines"
    return found
