"""An upload's payload, checked as strictly as Meta checks it.

Two kinds of fault are told apart. What is wrong with the request is a code 100 (a schema with unknown keys, rows of
another length, more than 10,000 of them); what is wrong with a row is counted in ``num_invalid_entries``, sampled,
and the row is left out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.identifiers import row_fingerprints, row_identifiers
from airflow_provider_fbca.sandbox.schema import (
    ALL_KEYS,
    ATTRIBUTE_KEYS,
    HASHED_KEYS,
    OPTIONS_COUNTRY_KEY,
    OPTIONS_KEY,
    OPTIONS_STATE_KEY,
    PLAIN_KEYS,
    STRING_SCHEMAS,
    VALUE_KEY,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Rows that one request may bring.
MAX_ROWS = 10_000
#: Rows that one answer shows as samples of invalid ones.
MAX_SAMPLES = 100

_KNOWN = frozenset(ALL_KEYS)
_DIGEST = re.compile("[0-9a-f]{64}")
_DIGEST_LENGTHS = frozenset({0, 64})
_MOST_WHOLE = 2**63 - 1
_APP_ID_KEYS = frozenset({"UID", "APPUID"})


@dataclass(frozen=True)
class Batch:
    """The rows of one request that are usable.

    :param columns: key -> cells as they were sent, ``""`` for unknown.
    :param identifiers: the identifiers of each row.
    :param fingerprints: a number for each row, made of its identity cells.
    :param received: how many rows came, usable or not.
    :param invalid: row as sent, as JSON text -> what is wrong with it; at most :data:`MAX_SAMPLES`.
    :param invalid_count: how many rows are not usable.
    """

    columns: Mapping[str, Sequence[Any]]
    identifiers: Sequence[list[int]]
    fingerprints: Sequence[int]
    received: int
    invalid: Mapping[str, str] = field(default_factory=dict)
    invalid_count: int = 0

    @property
    def row_count(self) -> int:
        """How many rows are usable."""
        return self.received - self.invalid_count

    def with_identifiers(self, identifiers: Sequence[list[int]]) -> Batch:
        """Return the same rows with other numbers for their identifiers."""
        return replace(self, identifiers=identifiers)

    @property
    def has_attributes(self) -> bool:
        """Whether rows say more than who they are, so that a row that comes again may say it anew."""
        return any(key in self.columns for key in ATTRIBUTE_KEYS)


@dataclass(frozen=True)
class Payload:
    """The ``payload`` parameter with its outer form checked.

    :param keys: the schema's keys in order.
    :param rows: the rows as JSON text.
    :param data_source: what Meta calls this way of loading: an array schema or a string one.
    """

    keys: tuple[str, ...]
    rows: memoryview
    data_source: str

    @property
    def has_value(self) -> bool:
        """Whether the rows carry LOOKALIKE_VALUE."""
        return VALUE_KEY in self.keys


class _PayloadForm(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    schema: str | list[str] | None = None
    app_ids: list[str | int] | None = None
    page_ids: list[str | int] | None = None


def read_payload(text: memoryview) -> Payload:
    """Check the outer form of a payload.

    :param text: JSON.
    :raises GraphError: code 100, with what is wrong.
    """
    try:
        form = msgspec.json.decode(text, type=_PayloadForm)
    except msgspec.MsgspecError as error:
        raise errors.invalid_parameter("payload must be a JSON object with schema and data") from error
    rows = memoryview(form.data)
    if form.schema is None or not rows:
        raise errors.data_mismatch("payload needs both schema and data")
    if isinstance(form.schema, str):
        key = STRING_SCHEMAS.get(form.schema)
        if key is None:
            raise errors.data_mismatch("unknown key in schema")
        return Payload((key,), rows, errors.HASHES_OR_USER_IDS)
    keys = tuple(form.schema)
    _check_keys(keys, form)
    return Payload(keys, rows, errors.MULTI_HASHES)


def _check_keys(keys: tuple[str, ...], form: _PayloadForm) -> None:
    if not keys:
        raise errors.data_mismatch("schema is empty")
    if not _KNOWN.issuperset(keys):
        raise errors.data_mismatch("unknown key in schema")
    if len(set(keys)) < len(keys):
        raise errors.data_mismatch("a key stands twice in schema")
    if _APP_ID_KEYS.intersection(keys) and not form.app_ids:
        raise errors.invalid_parameter("app_ids is required with app-scoped user ids")
    if "PAGEUID" in keys and len(form.page_ids or []) != 1:
        raise errors.invalid_parameter("page_ids with one element is required with page-scoped user ids")


def count_rows(payload: Payload) -> int:
    """Return the number of rows after checking their number and shape only: fast, for benchmarks.

    :raises GraphError: code 100, with what is wrong.
    """
    try:
        rows = msgspec.json.decode(payload.rows, type=list[msgspec.Raw])
        # As many commas as there must be: no need to look into rows, which takes ten times as long.
        if len(rows) * len(payload.keys) - 1 != bytes(payload.rows).count(b","):
            _check_shape(msgspec.json.decode(payload.rows, type=list[list[msgspec.Raw]]), len(payload.keys))
    except msgspec.MsgspecError as error:
        raise errors.data_mismatch("data must be a list of rows") from error
    _check_size(len(rows))
    return len(rows)


def read_batch(payload: Payload, *, accept_upper_case: bool = False) -> Batch:
    """Check every row and cell.

    :param payload: what :func:`read_payload` gave.
    :param accept_upper_case: whether upper-case hex counts as a digest.
    :raises GraphError: code 100 for a fault of the request; a row's fault is counted instead.
    """
    rows = _decode_rows(payload)
    _check_shape(rows, len(payload.keys))
    columns: dict[str, Sequence[Any]] = dict(zip(payload.keys, zip(*rows, strict=True), strict=True))
    faults: dict[int, str] = {}
    if accept_upper_case:
        columns |= {key: _lower(columns[key]) for key in HASHED_KEYS if key in columns}
    for key, cells in columns.items():
        _find_faults(key, cells, faults)
    texts = {key: _as_text(cells, faults) for key, cells in columns.items() if key not in ATTRIBUTE_KEYS}
    identifiers = row_identifiers(texts, len(rows))
    for row, found in enumerate(identifiers):
        if not found:
            faults.setdefault(row, "No identifier that singles out a person")
    fingerprints = row_fingerprints(texts, len(rows))
    if not faults:
        return Batch(columns, identifiers, fingerprints, received=len(rows))
    usable = [row not in faults for row in range(len(rows))]
    samples = sorted(faults)[:MAX_SAMPLES]
    return Batch(
        columns={key: list(compress(cells, usable)) for key, cells in columns.items()},
        identifiers=list(compress(identifiers, usable)),
        fingerprints=list(compress(fingerprints, usable)),
        received=len(rows),
        invalid={msgspec.json.encode(rows[row]).decode(): faults[row] for row in samples},
        invalid_count=len(faults),
    )


def _decode_rows(payload: Payload) -> list[Sequence[Any]]:
    rows = msgspec.json.decode(payload.rows)
    if not isinstance(rows, list):
        raise errors.data_mismatch("data must be a list of rows")
    if len(payload.keys) == 1:
        # One key: the guide shows both a flat list and a list of one-element rows.
        return [row if isinstance(row, list) else [row] for row in rows]
    if not all(isinstance(row, list) for row in rows):
        raise errors.data_mismatch("every row must be a list")
    return rows


def _check_shape(rows: Sequence[Sequence[Any]], width: int) -> None:
    _check_size(len(rows))
    if set(map(len, rows)) != {width}:
        raise errors.data_mismatch("rows must have as many cells as schema has keys")


def _check_size(row_count: int) -> None:
    if not row_count:
        raise errors.data_mismatch("data is empty")
    if row_count > MAX_ROWS:
        raise errors.invalid_parameter(f"at most {MAX_ROWS} rows fit into one request")


def _find_faults(key: str, cells: Sequence[Any], faults: dict[int, str]) -> None:
    if key in HASHED_KEYS:
        if _all_digests(cells):
            return
        is_good: Callable[[Any], bool] = _is_digest_or_blank
    else:
        is_good = _PLAIN_CHECKS[key]
    sentence = f"Invalid {key}"
    for row, cell in enumerate(cells):
        if not is_good(cell):
            faults.setdefault(row, sentence)


def _all_digests(cells: Sequence[Any]) -> bool:
    """Say whether a whole column is digests and blanks: a few passes in C instead of a match for each cell."""
    try:
        digits = "".join(cells)
        packed = bytes.fromhex(digits)
    except (TypeError, ValueError):
        return False
    # fromhex skips white space and takes capitals, so both are ruled out apart.
    return _DIGEST_LENGTHS.issuperset(map(len, cells)) and 2 * len(packed) == len(digits) and digits.lower() == digits


def _lower(cells: Sequence[Any]) -> Sequence[Any]:
    return [cell.lower() if isinstance(cell, str) else cell for cell in cells]


def _is_digest_or_blank(cell: object) -> bool:
    return isinstance(cell, str) and (cell == "" or _DIGEST.fullmatch(cell) is not None)


def _is_plain_id(cell: object) -> bool:
    return isinstance(cell, str) or _is_whole(cell)


def _is_value(cell: object) -> bool:
    if isinstance(cell, bool):
        return False
    try:
        number = float(cell)  # type: ignore[arg-type]  # Meta's samples show numbers and numbers in quotes
    except (TypeError, ValueError, OverflowError):
        return False
    return math.isfinite(number) and number >= 0


def _is_options(cell: object) -> bool:
    return cell in ([], ["LDU"])


def _is_place(cell: object) -> bool:
    return _is_whole(cell)


def _is_whole(cell: object) -> bool:
    return isinstance(cell, int) and not isinstance(cell, bool) and 0 <= cell <= _MOST_WHOLE


_PLAIN_CHECKS: Mapping[str, Callable[[Any], bool]] = dict.fromkeys(PLAIN_KEYS, _is_plain_id) | {
    VALUE_KEY: _is_value,
    OPTIONS_KEY: _is_options,
    OPTIONS_COUNTRY_KEY: _is_place,
    OPTIONS_STATE_KEY: _is_place,
}


def _as_text(cells: Sequence[Any], faults: Mapping[int, str]) -> Sequence[str]:
    """Return cells as text to compare; those of rows at fault become blank where they are no text."""
    if set(map(type, cells)) == {str}:
        return cells
    return [_one_text(cell) if row not in faults else "" for row, cell in enumerate(cells)]


def _one_text(cell: object) -> str:
    return cell if isinstance(cell, str) else str(cell)
