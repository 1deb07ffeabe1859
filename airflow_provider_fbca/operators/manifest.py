"""What a task leaves in XCom: counts, ids and digests of what it sent, never a person's value or hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import LedgerError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import OpenEntry, OpenMarker
    from airflow_provider_fbca.sync import Plan, Sent


#: An audience that is only ever uploaded to has thousands; each would be in each manifest.
_MOST_OUTSTANDING = 100


def manifest_key(audience_id: str) -> str:
    """Return the XCom key under which tasks leave the manifest of an audience.

    It carries the audience's id, not a position: the list that a task is mapped over may change its order.
    """
    return f"fbca_upload:{audience_id}"


def manifest_of(
    marker: OpenMarker,
    entry: OpenEntry | None,
    *,
    plan: Plan,
    outstanding: Mapping[str, str | None],
    sent: Sent | None = None,
    uploaded_at: str | None = None,
) -> dict[str, Any]:
    """Return the manifest of what was carried out.

    :param marker: of the entry.
    :param entry: None where there was nothing to send, and so no entry.
    :param outstanding: id -> digest of the entries not retired once this one is settled, this one among them; the
        newest hundred are told, and those before in the manifests before.
    :param sent: what came of it; only of the try that came to the end, where others went before.
    :param uploaded_at: UTC, ISO 8601.
    :returns: JSON of a few hundred bytes, whatever the number of people.
    """
    newest = list(outstanding.items())[-_MOST_OUTSTANDING:]
    return {
        "audience_id": marker.audience_id,
        "ad_account_id": marker.ad_account_id,
        "schema": list(marker.schema),
        "strategy": marker.strategy,
        "rows": plan.members,
        "added": plan.added,
        "removed": plan.removed,
        "received": sent.received if sent else 0,
        "invalid": sent.invalid if sent else 0,
        "rejected": marker.prepared.get("rejected", {}),
        "keys": marker.prepared.get("keys", {}),
        "session_ids": list(sent.session_ids) if sent else [],
        "entry": {"id": entry.id, "uri": entry.uri} if entry else None,
        "digest": entry.digest if entry else None,
        "outstanding": [{"id": entry_id, "digest": digest} for entry_id, digest in newest],
        "uploaded_at": uploaded_at,
        "run_id": str(marker.owner["run_id"]),
    }


def plan_report(
    audience_id: str, plan: Plan, report: PrepareReport, *, requests: int, minutes: float, refused: str | None
) -> dict[str, Any]:
    """Return what ``plan_only`` gives instead of a manifest: what would be done, by counts.

    :param requests: that it would take, at least.
    :param minutes: that these take at least under Meta's rate limit as it stands.
    :param refused: why a guard would stop it, None where none would.
    """
    return {
        "plan_only": True,
        "audience_id": audience_id,
        "rows": plan.members,
        "would_add": plan.added,
        "would_remove": plan.removed,
        "leaving": plan.leaving,
        "kept": plan.present - plan.leaving,
        "present": plan.present,
        "requests": requests,
        "minutes_at_rate_limit": round(minutes, 1),
        "would_be_refused": refused,
        "prepared": report.as_dict(),
    }


def manifests_in(given: object) -> list[Any]:
    """Return the manifests in what XCom gave: nothing, one, or several in no useful order.

    :param given: what ``xcom_pull`` returned, or ``previous_upload``.
    """
    if given is None:
        return []
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return [each for each in given if each is not None]
    return [given]


def named_entries(manifests: Iterable[Any], audience_id: str) -> dict[str, str]:
    """Return the ledger entries that earlier manifests name, each with where it was.

    :param manifests: values of earlier runs' XComs, or of ``previous_upload``.
    :param audience_id: that they must be of.
    :returns: entry id -> URI of its snapshot, or of the manifest's own entry for those it merely lists; empty where it
        names none of its own, since there was nothing to send.
    :raises OptionsError: for something that is no manifest, or one of another audience.
    """
    named: dict[str, str] = {}
    for manifest in manifests:
        try:
            of, entry, outstanding = manifest["audience_id"], manifest["entry"], manifest["outstanding"]
            own = {entry["id"]: entry["uri"]} if entry is not None else {}
            found = {each["id"]: next(iter(own.values()), "") for each in outstanding} | own
            is_manifest = all(isinstance(text, str) for pair in found.items() for text in pair)
        except (KeyError, TypeError):
            is_manifest = False
        if not is_manifest:
            raise OptionsError(
                "previous_upload is not the manifest of an upload.",
                remedy="Pass the output of an upload or refresh task of this audience.",
            )
        if str(of) != audience_id:
            raise OptionsError(
                f"previous_upload is of audience {of}, and this task writes to audience {audience_id}.",
                remedy="Pass the output of a task of the same audience.",
            )
        # A task that had nothing to send lists entries without knowing where they are.
        named = found | {entry_id: uri for entry_id, uri in named.items() if uri} | own
    return named


def refuse_unknown(unknown: Iterable[str], named: Mapping[str, str], ledger_uri: str) -> None:
    """Refuse to go on where XCom or the ledger itself names entries that the ledger does not have (rule L7).

    :param unknown: their ids.
    :param named: entry id -> URI, as far as XCom tells.
    :param ledger_uri: of the audience's folder that was looked at.
    :raises LedgerError: where there is any.
    """
    missing = sorted(unknown)
    if not missing:
        return
    places = sorted(
        {named[entry_id].rpartition("/")[0] for entry_id in missing if entry_id in named} - {ledger_uri, ""}
    )
    moved = f" They were written to {', '.join(places)}." if places else ""
    raise LedgerError(
        f"The ledger in {ledger_uri} lacks {len(missing)} entries that earlier runs wrote ({', '.join(missing[:5])}): "
        f"people of theirs may be in the audience and could never be removed.{moved}",
        remedy=(
            "Point ledger_uri to where the ledger is, or restore its folder from a backup; if it is lost, refresh "
            'once with strategy="replace", which clears all.'
        ),
    )
