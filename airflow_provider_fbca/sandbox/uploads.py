"""Adding, removing and replacing people: the users, usersreplace and usersofanyaudience edges.

Sources: the Custom Audience guide
(https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences) and the
references of the two edges. Where they disagree with each other the comments say which one is followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.audience import FLAGGED, Change, Replace
from airflow_provider_fbca.sandbox.batch import Batch, Payload, count_rows, read_batch, read_payload
from airflow_provider_fbca.sandbox.sessions import BatchPlace, Session, read_place

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.audience import Audience
    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.request_log import LoggedRequest
    from airflow_provider_fbca.sandbox.world import World

_FIRST_BATCH = 1


def change_users(
    world: World, audience: Audience, params: Params, entry: LoggedRequest, *, removes: bool
) -> dict[str, Any]:
    """Add or remove people: POST or DELETE ``/{audience}/users``.

    :param removes: whether the people of the payload go.
    :returns: the upload result.
    :raises GraphError: if the upload is refused as a whole.
    """
    _check_open(world, audience)
    payload = _read_payload(params)
    _check_fit(audience, payload, value_needed=not removes)
    if audience.replace is not None and audience.replace.is_shown:
        raise errors.replace_in_progress()
    place = _read_place(params, entry, required=False)
    batch = _read_batch(world, payload, entry)
    session = _session_of(world, audience.account_id, audience.audience_id, place)
    now = world.clock.now()
    if session.is_late(now):
        # The guide: batches after the 90 minutes are discarded; nothing in the answer tells.
        session.discarded += batch.received
        return _result(world, audience.audience_id, session, batch, extra_received=session.discarded)
    if removes:
        _check_what_remains(world, audience, batch)
    else:
        audience.data_source = audience.data_source or payload.data_source
    audience.accept(Change(now + world.settings.apply_delay_seconds, batch, removes), now)
    audience.replace_failed = False
    session.count(batch.received, batch.invalid_count)
    if place is None or place.is_last:
        session.finished_at = now
    return _result(world, audience.audience_id, session, batch)


def replace_users(world: World, audience: Audience, params: Params, entry: LoggedRequest) -> dict[str, Any]:
    """Take one batch of a replace: POST ``/{audience}/usersreplace``.

    :returns: the upload result.
    :raises GraphError: if the batch is refused; 2650 and a subcode for its place in the session.
    """
    _check_open(world, audience)
    if not audience.is_customer_list:
        raise errors.update_failed("Only audiences of subtype CUSTOM can be replaced")
    payload = _read_payload(params)
    _check_fit(audience, payload, value_needed=True)
    place = _read_place(params, entry, required=True)
    if place is None:  # required above
        raise errors.missing_parameter("session")
    batch = _read_batch(world, payload, entry)
    session = _replace_session(world, audience, place, payload)
    if audience.replace is None:  # _replace_session has checked or begun it
        raise errors.first_batch_missing()
    audience.replace.members.add(batch)
    session.count(batch.received, batch.invalid_count)
    if place.is_last:
        session.finished_at = world.clock.now()
    result = _result(world, audience.audience_id, session, batch)
    # The guide's replace table says account_id and shows a number, the reference says audience_id.
    return result | {"account_id": audience.audience_id, "session_id": session.session_id}


def remove_from_all(world: World, account_id: str, params: Params, entry: LoggedRequest) -> dict[str, Any]:
    """Remove people from every customer list of an account: DELETE ``/act_{id}/usersofanyaudience``.

    The guide: nothing happens, without an error, where the terms are not accepted.

    :returns: an upload result; its real form is not documented.
    """
    payload = _read_payload(params)
    place = _read_place(params, entry, required=False)
    batch = _read_batch(world, payload, entry)
    session = _session_of(world, account_id, "", place)
    now = world.clock.now()
    if session.is_late(now):
        session.discarded += batch.received
        return _result(world, "", session, batch, extra_received=session.discarded)
    if world.terms_accepted(account_id):
        for audience in world.audiences.values():
            if audience.account_id == account_id and audience.is_customer_list:
                audience.accept(Change(now + world.settings.apply_delay_seconds, batch, removes=True), now)
    session.count(batch.received, batch.invalid_count)
    if place is None or place.is_last:
        session.finished_at = now
    return _result(world, "", session, batch)


def _check_open(world: World, audience: Audience) -> None:
    world.require_terms(audience.account_id)
    if audience.status_code == FLAGGED:
        raise errors.flagged_upload()


def _read_payload(params: Params) -> Payload:
    text = params.json_text("payload")
    if text is None:
        raise errors.missing_parameter("payload")
    return read_payload(text)


def _read_place(params: Params, entry: LoggedRequest, *, required: bool) -> BatchPlace | None:
    place = read_place(params, required=required)
    if place is not None:
        entry.session_id = str(place.session_id)
        entry.batch_seq = place.batch_seq
        entry.last_batch_flag = place.is_last
    return place


def _read_batch(world: World, payload: Payload, entry: LoggedRequest) -> Batch:
    if world.settings.count_only:
        entry.rows = count_rows(payload)
        return Batch({}, [], [], received=entry.rows)
    batch = read_batch(payload, accept_upper_case=world.settings.accept_upper_case_hashes)
    entry.rows = batch.received
    return batch.with_identifiers(world.aliases.apply(batch.identifiers))


def _check_fit(audience: Audience, payload: Payload, *, value_needed: bool) -> None:
    if not audience.is_customer_list:
        raise errors.update_failed("Only audiences of subtype CUSTOM take people")
    if audience.is_value_based and value_needed and not payload.has_value:
        raise errors.value_required()
    if payload.has_value and not audience.is_value_based:
        raise errors.value_unexpected()
    if audience.data_source not in (None, payload.data_source):
        raise errors.data_source_mismatch(str(audience.data_source), payload.data_source)


def _session_of(world: World, account_id: str, audience_id: str, place: BatchPlace | None) -> Session:
    """Return the session of a batch that adds or removes, made now if this is its first."""
    now = world.clock.now()
    session_id = place.session_id if place else world.own_session_id()
    session = world.sessions.get((account_id, session_id))
    if session is None:
        session = Session(session_id, audience_id, "users", started_at=now)
        world.sessions[account_id, session_id] = session
    elif session.audience_id != audience_id or session.kind != "users":
        raise errors.invalid_parameter("session.session_id was used for another upload of this ad account")
    elif session.finished_at is not None:
        raise errors.session_finished()
    return session


def _replace_session(world: World, audience: Audience, place: BatchPlace, payload: Payload) -> Session:
    """Return the session of a replace's batch; batch 1 of a new one begins the replace."""
    session = world.sessions.get((audience.account_id, place.session_id))
    if session is None:
        if place.batch_seq != _FIRST_BATCH:
            raise errors.first_batch_missing()
        return _begin_replace(world, audience, place.session_id, payload)
    if session.audience_id != audience.audience_id or session.kind != "replace":
        raise errors.invalid_parameter("session.session_id was used for another upload of this ad account")
    if session.finished_at is not None:
        raise errors.session_finished()
    if session.is_late(world.clock.now()):
        raise errors.session_out_of_time()
    if place.batch_seq == _FIRST_BATCH:
        # The guide: batch 1 starts a replace, so a second one meets the first.
        raise errors.replace_in_progress()
    if session.keys != payload.keys:
        raise errors.update_failed("The schema must stay the same for the whole session")
    return session


def _begin_replace(world: World, audience: Audience, session_id: int, payload: Payload) -> Session:
    if audience.replace is not None:
        raise errors.replace_in_progress()
    if audience.is_huge:
        raise errors.too_large_to_replace()
    session = Session(session_id, audience.audience_id, "replace", world.clock.now(), keys=payload.keys)
    world.sessions[audience.account_id, session_id] = session
    settings = world.settings
    audience.replace = Replace(
        session,
        world.new_members(),
        settings.replace_seconds,
        settings.replace_fails,
        shows_at=session.started_at + settings.replace_shows_after_seconds,
        is_shown=not settings.replace_shows_after_seconds,
    )
    audience.data_source = audience.data_source or payload.data_source
    return session


def _check_what_remains(world: World, audience: Audience, batch: Batch) -> None:
    leaving = audience.members.matching(batch) if world.settings.minimum_people else ()
    if leaving and audience.members.people - len(leaving) < world.settings.minimum_people:
        raise errors.removal_leaves_too_few()


def _result(
    world: World, audience_id: str, session: Session, batch: Batch, *, extra_received: int = 0
) -> dict[str, Any]:
    """Return the upload result, in the form of the reference of the users edge."""
    # An empty sample list is seen as an object and as an array in the field.
    nothing: dict[str, str] | list[str] = {} if next(world.answers) % 2 else []
    return {
        "audience_id": audience_id,
        "session_id": str(session.session_id),
        "num_received": session.received + extra_received,
        "num_invalid_entries": batch.invalid_count,
        "invalid_entry_samples": dict(batch.invalid) or nothing,
    }
