"""A proof as one page for people who were not there: no script, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from shlex import quote
from typing import Any

from sortition.core.bucketing import threshold
from sortition.neutrality.numbers import BINS
from sortition.neutrality.special import binomial_margin

Content = Mapping[str, Any]
"""What `neutrality prove --json` prints."""

TITLES = {
    "fair": "The lot is fair",
    "unfair": "The lot is not fair",
    "control_passed": "This proves nothing",
}

LEADS = {
    "fair": "Every check passed, and every lot that is known to be unfair was found by the same "
    "checks.",
    "unfair": "At least one check failed. What it found stands below.",
    "control_passed": "A lot that is known to be unfair was not found, so the same checks cannot "
    "vouch for this one. More ids help.",
}

POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --paper: light-dark(#fbfbfa, #0f1419);
  --sheet: light-dark(#fff, #161c23); --text: light-dark(#1b1f24, #e6edf3);
  --muted: light-dark(#57606a, #9aa6b2); --rule: light-dark(#d5d5cf, #323c47);
  --accent: light-dark(#0b62a8, #6cb6ff); --ok: light-dark(#0b5c2b, #7ee2a0);
  --warn: light-dark(#7a4f00, #f2cc60); --danger: light-dark(#b3261e, #ff8a80); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 60rem; background: var(--paper);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 40px 0 8px; }
h3 { font-size: 16px; margin: 24px 0 4px; overflow-wrap: anywhere; }
p, ul, ol { margin: 8px 0; max-width: 42rem; }
.lead { font-size: 18px; }
.muted { color: var(--muted); }
td .ok, td .bad { white-space: nowrap; }
.ok { color: var(--ok); } .bad { color: var(--danger); } .warn { color: var(--warn); }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--sheet); margin: 12px 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px;
  border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--muted); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: 12px; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--sheet); }
pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
svg { display: block; width: 100%; height: 96px; }
svg .bar { fill: var(--accent); } svg .margin { fill: var(--text); opacity: .12; }
svg .expected { stroke: var(--text); stroke-dasharray: 4 3; }
figure { margin: 12px 0; } figcaption { color: var(--muted); font-size: 14px; }
@media print { .scroll { overflow: visible; } }
"""


def page(content: Content) -> str:
    """Return the page of a proof."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{TITLES[content['kind']]}: Sortition</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *_head(content),
            *_what_decides(content),
            *_checks(content),
            *_controls(content),
            *_flags(content),
            *_limits(),
            *_repeat(content),
            "</main></body></html>\n",
        ]
    )


def _head(content: Content) -> Iterable[str]:
    kind = content["kind"]
    tone, mark = ("ok", "✔") if kind == "fair" else ("bad", "✖")
    flags = len(content["flags"])
    yield f'<h1><span class="{tone}" aria-hidden="true">{mark}</span> {TITLES[kind]}</h1>'
    yield f'<p class="lead">{LEADS[kind]}</p>'
    yield (
        f'<p class="muted">{escape(content["subject"])}: {flags} '
        f"{'flag' if flags == 1 else 'flags'}, {content['ids']:,} request ids of each of "
        f"{len(content['shapes'])} shapes. Sortition {escape(content['version'])}, computed with "
        f"{escape(content['computed_with'])}.</p>"
    )


def _what_decides(content: Content) -> Iterable[str]:
    yield "<h2>What decides</h2>"
    yield (
        "<p>A new feature is shown to a share of requests, say 5 %. Which ones is drawn by lot: "
        "the request's random id and the flag's salt are hashed to a number, the <em>point</em>, "
        "and the request is exposed if its point lies below the share. This is all that "
        "decides:</p>"
        "<ul><li>the request's id: a trace id, or a random session token;</li>"
        "<li>the flag's salt, which is random and public;</li>"
        "<li>the flag's share and weights, which people set and which stand in the record;</li>"
        "<li>other flags that have to serve a variant first, each drawn by its own lot;</li>"
        "<li>conditions, if there are any, on where the code runs: never on who asks.</li></ul>"
    )
    departures = content["departures"]
    if departures:
        yield (
            '<p class="warn"><span aria-hidden="true">⚠</span> Departures from uniform. These '
            "flags pick traffic by place before the lot is drawn:</p><ul>"
        )
        for key, names in departures.items():
            yield f"<li><code>{escape(key)}</code> looks at {escape(' and '.join(names))}</li>"
        yield "</ul>"
    yield "<h2>What cannot decide</h2>"
    yield (
        "<p>Name, account, e-mail address, telephone number, IP address, browser, "
        "language, age, sex, origin, payment. An evaluation has no parameter that could carry "
        "them, so neither has any rule. A remote evaluation that brings one along is refused.</p>"
    )


def _checks(content: Content) -> Iterable[str]:
    yield "<h2>What was checked</h2>"
    yield (
        "<p>Each figure has a tail: how likely a fair lot is to show something as extreme. A check "
        "fails where a tail is below its limit. Limits are set so that a fair lot fails a whole "
        "proof about once in ten thousand. Points that are too even are as suspicious as points "
        "that are too uneven.</p>"
    )
    rows = []
    for check in content["checks"]:
        worst = check["worst"]
        rows.append(
            [
                _mark(check["passed"]) if check["tests"] else "–",
                escape(check["words"]),
                f"{check['tests']:,}",
                "" if worst is None else f"{worst['tail']:.2g}",
                "" if worst is None else f"{check['limit']:.1e}",
                "" if worst is None else escape(f"{worst['subject']} ({worst['shape']})"),
            ]
        )
    columns = ("Result", "What is asked", "Tests", "Smallest tail", "Limit", "Of")
    yield _table("Checks", columns, rows, numbers={2, 3, 4})


def _controls(content: Content) -> Iterable[str]:
    yield "<h2>Unfair lots, which must be found</h2>"
    yield (
        "<p>A check that cannot fail proves nothing. So the same checks look at lots that are "
        "known to be unfair, and must find each of them, on every shape of ids.</p>"
    )
    shapes = len(content["shapes"])
    rows = [
        [
            _mark(control["caught"], "found", "missed"),
            escape(control["words"]),
            escape(
                ", ".join(
                    f"{check} ({len(found)} of {shapes})"
                    for check, found in control["found"].items()
                )
            ),
        ]
        for control in content["controls"]
    ]
    yield _table("Controls", ("Result", "The lot", "Found by"), rows)


def _flags(content: Content) -> Iterable[str]:
    yield "<h2>Where the points fell</h2>"
    whole = content["ids"] * len(content["shapes"])
    low, high = binomial_margin(whole, 1 / BINS, 0.0005)
    yield (
        f"<p>Each flag's points for all {whole:,} ids, counted in {BINS} equal parts of their "
        f"range. A fair lot puts {whole / BINS:,.0f} into each, and between {low:,} and {high:,} "
        "in all but one of a thousand parts: that is the grey band.</p>"
    )
    for flag in content["flags"]:
        counts = content["histograms"][flag["flag"]]
        name = escape(flag["flag"])
        yield f"<h3>{name}</h3><figure>{histogram(counts, low, high, flag['flag'])}"
        yield (
            f"<figcaption>Salt <code>{escape(flag['salt'])}</code>, seed {flag['seed']}. Smallest "
            f"part {min(counts):,}, largest {max(counts):,}.</figcaption></figure>"
        )
    yield "<h3>How many were exposed</h3>"
    yield _table(
        "Exposed",
        ("Flag", "Ids", "Share", "Exposed", "Expected"),
        _exposed(content),
        numbers={3, 4},
    )


def _exposed(content: Content) -> list[list[str]]:
    rows = []
    for finding in content["findings"]:
        if finding["check"] != "shares" or not finding["subject"].endswith(" at 5 %"):
            continue
        flag = finding["subject"].rpartition(", ")[0]
        expected = content["ids"] * threshold(50_000) / 2**32
        cells = [flag, finding["shape"], "5 %"]
        rows.append([*map(escape, cells), f"{finding['figure']:,.0f}", f"{expected:,.0f}"])
    return rows


def histogram(counts: Sequence[int], low: int, high: int, name: str) -> str:
    """Return an SVG of counts of equal parts, with the band within which chance stays."""
    top = max(*counts, high, 1) * 1.05
    width, height = 640, 96
    each = width / len(counts)

    def down(count: float) -> float:
        return height * (1 - count / top)

    bars = "".join(
        f'<rect class="bar" x="{i * each:.2f}" y="{down(count):.2f}" width="{each * 0.82:.2f}" '
        f'height="{height - down(count):.2f}"/>'
        for i, count in enumerate(counts)
    )
    middle = down(sum(counts) / len(counts))
    words = escape(
        f"{name}: {len(counts)} parts hold between {min(counts):,} and {max(counts):,} points"
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}">{bars}'
        f'<rect class="margin" x="0" y="{down(high):.2f}" width="{width}" '
        f'height="{max(1.0, down(low) - down(high)):.2f}"/>'
        f'<line class="expected" x1="0" x2="{width}" y1="{middle:.2f}" y2="{middle:.2f}"/></svg>'
    )


def _limits() -> Iterable[str]:
    yield "<h2>What this does not say</h2>"
    yield (
        "<ul><li>Whoever may choose a request's id may choose its lot. Ids have to be set by a hop "
        "that is trusted.</li>"
        "<li>A lot is drawn for a request, not for a person. Whoever sends many requests meets "
        "both sides, unless ids are sessions' tokens.</li>"
        "<li>Whether the feature itself treats everybody alike is beyond a lot.</li>"
        "<li>These ids are made for the proof. What a server really serves is in "
        "<code>sortition neutrality report</code>.</li></ul>"
    )


def _repeat(content: Content) -> Iterable[str]:
    command = " \\\n  ".join(
        [
            f"sortition neutrality prove --ids {content['ids']} --seed {quote(content['seed'])}",
            *(f"--salt {quote(flag['salt'])}" for flag in content["flags"]),
        ]
    )
    command = f"# needs sortition[cli,neutrality]\n{command}"
    yield "<h2>How to repeat it</h2>"
    yield (
        "<p>Nobody has to be believed. With the flags' salts, which stand above, anybody has the "
        "same figures to the last digit, without our server:</p>"
        f'<pre tabindex="0" role="region" aria-label="Commands">{escape(command)}</pre>'
        "<p>Or in any language, from these lines:</p>"
        '<pre tabindex="0" role="region" aria-label="Definition">'
        "seed      = murmur3_x86_32(utf8(salt), seed=0)\n"
        "point     = murmur3_x86_32(utf8(request_id), seed=seed)\n"
        "threshold = share_ppm * 2**32 // 10**6\n"
        "exposed   = point &lt; threshold\n"
        'variant     the same with the salt + "/variant"</pre>'
        "<p>The ids are made from the seed with SHAKE-128. Their shapes, each with its first:</p>"
    )
    rows = [
        [escape(shape["words"]), f"<code>{escape(shape['example'])}</code>"]
        for shape in content["shapes"]
    ]
    yield _table("Shapes of ids", ("Shape", "First id"), rows)


def _mark(good: bool, yes: str = "passed", no: str = "failed") -> str:
    tone, mark, word = ("ok", "✔", yes) if good else ("bad", "✖", no)
    return f'<span class="{tone}"><span aria-hidden="true">{mark}</span> {word}</span>'


def _table(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: frozenset[int] | set[int] = frozenset(),
) -> str:
    """Return a table that scrolls by itself where it is too wide. Cells are HTML."""

    def cell(at: int, text: str, tag: str) -> str:
        kind = ' class="number"' if at in numbers else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{kind}{scope}>{text}</{tag}>"

    head = "".join(cell(at, text, "th") for at, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(cell(at, text, "td") for at, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
