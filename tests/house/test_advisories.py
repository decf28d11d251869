"""Nothing that is locked is known to be vulnerable, and nothing was left out of the asking."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.advisories import audit, reached, wrong

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements" / name for name in ("runtime.txt", "test.txt", "dev.txt")]
"""What a server runs with, and what its builders run; `bench.txt` is other vendors'."""

FINE = {"name": "flask", "version": "3.1.3", "vulns": []}
SKIPPED = {"name": "redis", "skip_reason": "it could not be audited"}
KNOWN = {
    "name": "pyyaml",
    "version": "5.3",
    "vulns": [{"id": "PYSEC-2020-96", "fix_versions": ["5.3.1"], "aliases": ["CVE-2020-1747"]}],
}


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port that is taken and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.slow
@pytest.mark.needs("advisories")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_nothing_that_is_locked_is_known_to_be_vulnerable(lock: Path) -> None:
    assert wrong(audit(lock)) == []


def test_what_could_not_be_asked_about_does_not_pass() -> None:
    assert wrong({"dependencies": [FINE]}) == []
    assert wrong({"dependencies": [FINE, SKIPPED]}) == [
        "redis was not looked at: it could not be audited"
    ]
    assert wrong({"dependencies": [FINE, KNOWN]}) == ["pyyaml 5.3: PYSEC-2020-96 (mended in 5.3.1)"]
    assert wrong({"dependencies": []}) == ["No package was looked at."]


@pytest.mark.slow
def test_pip_audit_is_content_with_what_it_skips_and_we_are_not(tmp_path: Path) -> None:
    asked = tmp_path / "requirements.txt"
    asked.write_text("no-such-package-of-anybody==1.0\n")

    assert [line.partition(":")[0] for line in wrong(audit(asked))] == [
        "no-such-package-of-anybody was not looked at"
    ]


def test_where_nobody_answers_it_is_told_that_nothing_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closed_port() as port:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")

        assert reached() is None
