"""The page for people: what the sandbox holds right now."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox.admin import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_fbca.sandbox.world import World

_LATEST_CALLS = 50

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1e21; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #dadde1; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { background: #f0f2f5; padding: 0 .2rem; }
.muted { color: #606770; }
"""


def render(world: World) -> str:
    """Return the page as HTML: audiences, their latest sessions and the latest calls; nobody's values."""
    now = world.tick()
    audiences = [describe(world, audience) for audience in world.audiences.values()]
    calls = list(reversed(world.log.entries()[-_LATEST_CALLS:]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Sandbox Graph API</title><style>{_STYLE}</style></head>
<body>
<h1>Sandbox Graph API</h1>
<p>A stand-in for Meta's Graph API on this machine. Nothing here reaches Meta.
Its clock shows {_instant(now)} UTC. Reload to see what is new.</p>
<h2>Audiences</h2>
{_audience_table(audiences)}
<h2>Upload sessions</h2>
{_session_table(audiences)}
<h2>Latest calls</h2>
{_call_table(calls)}
<p class="muted">The same as JSON: <a href="/sandbox/audiences">audiences</a>,
<a href="/sandbox/requests">calls</a>. All switches: <a href="/sandbox/docs">/sandbox/docs</a>.</p>
</body>
</html>
"""


def _audience_table(audiences: list[dict[str, Any]]) -> str:
    rows = (
        (
            audience["id"],
            audience["name"] or "",
            f"act_{audience['account_id']}",
            f"{audience['people']:,}",
            f"{audience['rows']:,}",
            f"{audience['operation_status']['code']} {audience['operation_status']['description']}",
            _instant(audience["time_content_updated"]),
        )
        for audience in audiences
    )
    heads = ("Id", "Name", "Ad account", "People", "Rows", "Status", "Members changed (UTC)")
    return _table(heads, rows, numbers={3, 4}, empty="No audience yet.")


def _session_table(audiences: list[dict[str, Any]]) -> str:
    rows = (
        (
            session["session_id"],
            audience["id"],
            session["kind"],
            session["stage"],
            f"{int(session['num_received']):,}",
            f"{int(session['num_invalid_entries']):,}",
            _instant(float(session["start_time"])),
        )
        for audience in audiences
        for session in reversed(audience["sessions"][-_LATEST_CALLS:])
    )
    heads = ("Session", "Audience", "Kind", "Stage", "Received", "Invalid", "Started (UTC)")
    return _table(heads, rows, numbers={4, 5}, empty="No upload yet.")


def _call_table(calls: list[dict[str, Any]]) -> str:
    rows = (
        (
            _instant(call["at"]),
            call["method"],
            call["path"],
            call["operation"],
            "" if call["rows"] is None else f"{call['rows']:,}",
            f"{call['body_bytes']:,}",
            "no answer" if call["status"] is None else str(call["status"]),
            call["error"] or "",
        )
        for call in calls
    )
    heads = ("At (UTC)", "Method", "Path", "Operation", "Rows", "Body bytes", "Status", "Error")
    return _table(heads, rows, numbers={4, 5}, empty="No call yet.")


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]], *, numbers: set[int], empty: str) -> str:
    body = "".join(f"<tr>{_cells('td', row, numbers)}</tr>" for row in rows)
    if not body:
        return f'<p class="muted">{escape(empty)}</p>'
    return f"<table><thead><tr>{_cells('th', heads, numbers)}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, texts: Iterable[str], numbers: set[int]) -> str:
    return "".join(
        f"<{tag}{' class=number' if place in numbers else ''}>{escape(text)}</{tag}>"
        for place, text in enumerate(texts)
    )


def _instant(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
