"""Random batches of random types, mappings and options, and what must hold for each of them.

    python -m tests.fuzz_identity [--minutes 10] [--seed 1]

No exception but the documented ones, none with a value in it; counts add up; the schema stays; rows stay in place; cells
are what the rule for one cell gives; batches may be cut anywhere; what was prepared is prepared already; nothing is never
hashed. A failure prints the number of its case: ``--only`` runs it again.
"""
# ruff: noqa: E501, PT017 - tables read best one a line; what is raised here is told by its case

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.exceptions import MappingError, OptionsError, UsersError
from airflow_provider_fbca.identity import KEYS, Blank, Context, Preparer, identify, resolve_mapping
from airflow_provider_fbca.identity.rule import country_of_cell

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = hashlib.sha256(b"").digest()
LDU = [key for key in KEYS if key.startswith("DATA_PROCESSING")]
NAMES = ["email", "Phone Number", "email_2", "mobile", "first", "last name", "fi", "dob", "birth month", "dob day", "doby", "city", "state", "zip", "country", "gender", "idfa", "external_id", "appuid", "pageuid", "ltv", "id", "notes", "value", "", " ", "\u200b", "EMAIL", "birth day"]  # fmt: skip
# Words that messages hold of themselves.
WORDS = {"California"}
TARGETS = [*(key for key in KEYS if key not in LDU), "DOB"]

#: Cells that somebody has stored somewhere.
CELLS = [
    *(" Mary@Example.COM ", "mary.ann+x@example.co.uk", "jürgen@exämple.de", "a@b@c.de", "mary@", "+1 (650) 555-1212", "06 12 34 56 78"),
    *("0049 170 1234567", "+44 (0)7911 123456", "6505551212.0", "6.505551212E9", "0011 44 7911 123456", "\u0660\u0666\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668"),
    *("O\u2019Neill", "\u0130pek", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "Sa\u0303o Paulo", "\u5c71\u7530", "\U0001f600", "\u200b", "\ufeff", "\u00a0", "\0", "-", "St. Louis", "California"),
    *("94025-3215", "2108", "M1 1AE", "D-10115", "'02108", "1990-05-02", "19900502", "05/02/1990", "2 May 1990", "1990-05-02T23:59:59+09:00", "Mai", "31", "0", "-1"),
    *("us", "Deutschland", "UK", "\u65e5\u672c", "Narnia", "m", "Frau", "unknown", "6D92078A-8246-4BA4-AE5B-76104861E7DC", "00000000-0000-0000-0000-000000000000"),
    *("44.5", "1e999", "nan", "NULL", "none", "N/A", "", " ", "LDU", "1000", "true", "x" * 300, "9" * 400, "e\u0301" * 50, "A" * 64, "0" * 32, "f" * 40),
    *(hashlib.sha256(b"us").hexdigest(), hashlib.sha256(b"").hexdigest().upper(), hashlib.md5(b"mary").hexdigest(), "\ud7ff\ue000", "\U0010ffff"),
]  # fmt: skip


def a_text(pick: random.Random) -> str:
    kind = pick.random()
    if kind < 0.6:
        return pick.choice(CELLS)
    if kind < 0.75:
        return pick.choice(CELLS) + pick.choice(CELLS)
    if kind < 0.85:
        return "".join(pick.choices("0123456789+-(). /x", k=pick.randrange(20)))
    letters = (
        chr(pick.choice((pick.randrange(0x80), pick.randrange(0x800), pick.randrange(0xD800))))
        for _ in range(pick.randrange(12))
    )
    return "".join(letters)  # fmt: skip


def maybe(pick: random.Random, make: Callable[[], Any], rows: int) -> list[Any]:
    share = pick.choice((0.0, 0.1, 0.5, 1.0))
    return [None if pick.random() < share else make() for _ in range(rows)]


def text_array(pick: random.Random, rows: int) -> pa.Array:
    words = [a_text(pick) for _ in range(pick.choice((1, 3, 30)))]
    return pa.array(maybe(pick, lambda: pick.choice(words), rows), pa.string())


def an_array(pick: random.Random, rows: int) -> pa.Array:
    """Give a column of a random type; at times of one that holds no identifier."""
    day = lambda: date(1, 1, 1) + timedelta(days=pick.randrange(3_000_000))  # noqa: E731
    moment = lambda: datetime(1700, 1, 1) + timedelta(seconds=pick.randrange(10**10))  # noqa: E731, DTZ001
    number = lambda: pick.choice((0, 1, -1, 5, 2108, 1990, 19900502, 94025, 6505551212, 2**53 + 1, 10**18, pick.randrange(10**11)))  # fmt: skip # noqa: E731
    whole = lambda bits: lambda: number() % 2 ** (bits - 1)  # noqa: E731
    unit = pick.choice(("s", "ms", "us"))
    zone = pick.choice((None, "UTC", "Asia/Tokyo", "+05:30", "-0330"))
    makers: list[Callable[[], pa.Array]] = [
        lambda: text_array(pick, rows),
        lambda: text_array(pick, rows),
        lambda: pa.array(text_array(pick, rows).to_pylist(), pick.choice((pa.large_string(), pa.string_view()))),
        lambda: pa.array(text_array(pick, rows).to_pylist(), pick.choice((pa.binary(), pa.large_binary(), pa.binary_view()))),
        lambda: text_array(pick, rows).dictionary_encode(),
        lambda: indexed(pick, rows),
        lambda: pa.array(maybe(pick, lambda: pick.randbytes(pick.choice((3, 32))), rows), pa.binary()),
        lambda: pa.array(maybe(pick, lambda: pick.choice((NOTHING, pick.randbytes(32))), rows), pa.binary(32)),
        *(lambda kind=kind: pa.array(maybe(pick, whole(kind.bit_width), rows), kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
        lambda: pa.array(maybe(pick, lambda: pick.choice((float(number()), pick.uniform(-1e20, 1e20), float("nan"), float("inf"), -0.0, 0.1)), rows), pa.float64()),
        lambda: pa.array(maybe(pick, lambda: float(number() % 10**6), rows), pa.float32()),
        lambda: pa.array(maybe(pick, lambda: Decimal(number()) + pick.choice((0, Decimal("0.50"))), rows), pick.choice((pa.decimal128(38, 9), pa.decimal256(60, 20)))),
        lambda: pa.array(maybe(pick, lambda: pick.random() < 0.5, rows), pa.bool_()),
        lambda: pa.array(maybe(pick, day, rows), pick.choice((pa.date32(), pa.date64()))),
        lambda: pa.array(maybe(pick, moment, rows), pa.timestamp(unit)).view(pa.timestamp(unit, zone)),
        lambda: pa.array(maybe(pick, lambda: datetime.fromtimestamp(pick.randrange(-9 * 10**9, 9 * 10**9), UTC), rows), pa.timestamp("ns", "UTC")),
        lambda: pa.nulls(rows),
        lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array(maybe(pick, lambda: uuid.UUID(int=pick.getrandbits(128)).bytes, rows), pa.binary(16))),
        lambda: run_ends(pick, rows),
    ]  # fmt: skip
    unfit: list[Callable[[], pa.Array]] = [
        lambda: pa.array(maybe(pick, lambda: [a_text(pick)], rows), pa.list_(pa.string())),
        lambda: pa.array(maybe(pick, lambda: {"a": a_text(pick)}, rows), pa.struct([("a", pa.string())])),
        lambda: pa.array(maybe(pick, lambda: timedelta(seconds=pick.randrange(10**6)), rows), pa.duration("s")),
        lambda: pa.array(maybe(pick, lambda: pick.randrange(86_400), rows), pa.time32("s")),
    ]
    return pick.choice(unfit if pick.random() < 0.02 else makers)()


def indexed(pick: random.Random, rows: int) -> pa.Array:
    """Give a dictionary with values twice, null among them, and some that no row has."""
    values = pa.array([*maybe(pick, lambda: a_text(pick), 5), "twice", "twice"], pa.string())
    kind = pick.choice((pa.int8(), pa.uint16(), pa.int64()))
    indices = pa.array(maybe(pick, lambda: pick.randrange(len(values)), rows), kind)
    return pa.DictionaryArray.from_arrays(indices, values)


def run_ends(pick: random.Random, rows: int) -> pa.Array:
    if rows == 0:
        return pa.nulls(0)
    ends = sorted({rows, *(pick.randrange(1, rows + 1) for _ in range(3))})
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), text_array(pick, len(ends)))


def values_in(column: pa.Array) -> set[str]:
    """Give the telling cells of a column, as text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    if pa.types.is_run_end_encoded(column.type):
        column = column.values
    if pa.types.is_nested(column.type):
        return {text for cell in column.to_pylist() for text in map(str, cell or ()) if len(text) > 5}
    if not str(column.type).startswith(("string", "large_string", "binary", "large_binary")):
        return set()
    texts = (cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in column.to_pylist())
    return {text for text in texts if text and len(text) > 5}


def a_table(pick: random.Random) -> tuple[pa.Table, dict[str, Any] | None]:
    """Give rows in chunks, and how their columns are mapped; None leaves it to their names."""
    rows = pick.choice((0, 1, 2, 17, 60))
    if pick.random() < 0.2:
        names = pick.sample(NAMES, pick.randrange(1, 8))
        mapping = None
    else:
        names = ["row", *(f"c{number}" for number in range(pick.randrange(1, 9)))]
        mapping = {name: pick.choice(TARGETS) for name in names[1:] if pick.random() < 0.95}
        mapping |= {name: [target, pick.choice(TARGETS)] for name, target in mapping.items() if pick.random() < 0.1}
        if pick.random() < 0.7:
            mapping = {"row": "EXTERN_ID"} | {name: key for name, key in mapping.items() if "EXTERN_ID" not in key}
        if pick.random() < 0.1:
            for key in pick.choice((LDU, LDU[:1], LDU[1:])):
                names.append(key)
                mapping[key] = key
        if pick.random() < 0.03:
            mapping[pick.choice(("gone", "c0"))] = pick.choice(("EMIAL", "", 5))
    arrays = [an_array(pick, rows) for _ in names]
    if names[0] == "row":
        arrays[0] = pa.array([f"row-{number}" for number in range(rows)])
    columns = [
        pa.chunked_array([array.slice(0, cut), array.slice(cut)])
        for array in arrays
        for cut in [pick.randrange(rows + 1)]
    ]
    return pa.table(columns, names=names), mapping  # fmt: skip


def some_options(pick: random.Random, told: set[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "default_country": pick.choice((None, "US", "de", "Italia", "JP", "Narnia" if pick.random() < 0.1 else "fr"))
    }
    options["transliterate"] = pick.random() < 0.3
    if pick.random() < 0.2:
        options["hashed"] = {pick.choice([*sorted(told), "EMAIL"]): pick.random() < 0.5}
    options["value_based"] = ("LOOKALIKE_VALUE" in told) != (pick.random() < 0.05)
    if pick.random() < 0.1:
        options["limited_data_use"] = pick.choice((True, {"country": 1, "state": 1000}, {"country": 9}))
    return options  # fmt: skip


def run_case(number: int, seed: int) -> str:
    """Run one case; give what became of it, ``prepared`` or the name of a documented error.

    :raises AssertionError: something does not hold.
    """
    pick = random.Random(f"{seed}/{number}")
    table, columns = a_table(pick)
    options = some_options(pick, {str(key) for key in (columns or {}).values()})
    batches = table.to_batches(max_chunksize=pick.choice((None, 1, 7)))
    values = set().union(*(values_in(chunk) for column in table.columns for chunk in column.chunks))
    try:
        mapping = resolve_mapping(table.schema.names, columns)
        preparer = Preparer(mapping, **options)
        prepared = [preparer.prepare(batch) for batch in batches]
    except (MappingError, OptionsError, UsersError) as error:
        told = "".join(traceback.format_exception(error))
        kept = {str(kind) for kind in table.schema.types} | {str(key) for key in (columns or {}).values()}
        found = [
            value
            for value in values - WORDS
            if value in told and not any(value in name for name in (*kept, *options.values()) if isinstance(name, str))
        ]
        assert not found, f"an exception quotes {found}"
        assert str(error)
        return type(error).__name__  # fmt: skip
    _check(pick, table, preparer, prepared, mapping, options)
    return "prepared"


def _check(pick: random.Random, table: pa.Table, preparer: Preparer, prepared: list[pa.RecordBatch], mapping: Any, options: dict[str, Any]) -> None:  # fmt: skip
    rows = sum(batch.num_rows for batch in prepared)
    report = preparer.report
    assert all(batch.schema == preparer.schema for batch in prepared)
    for batch in prepared:
        batch.validate(full=True)
    assert (report.rows_in, report.rows_out) == (table.num_rows, rows)
    assert report.rows_in == rows + sum(report.rejected.values())
    for key, counts in report.keys.items():
        assert counts.filled + counts.blank + counts.invalid.total() == report.rows_in, key
    sent = pa.Table.from_batches(prepared, preparer.schema)
    for column in sent.columns:
        cells = column.to_pylist()
        assert NOTHING not in cells
        assert "" not in cells
    at_once = Preparer(mapping, **options)
    whole = [at_once.prepare(batch) for batch in table.combine_chunks().to_batches()]
    assert pa.Table.from_batches(whole, at_once.schema).equals(sent)
    assert at_once.report.as_dict() == report.as_dict()
    told = Preparer(mapping, **options)
    pairs = [told.prepare_with_rejects(batch) for batch in table.to_batches(max_chunksize=pick.choice((None, 5)))]
    assert pa.Table.from_batches([pair[0] for pair in pairs], told.schema).equals(sent)
    rejects = [line for _, lines in pairs for line in lines.to_pylist()]
    rejected = [line["row"] for line in rejects if line["key"] is None]
    assert rejected == sorted(set(rejected))
    assert len(rejected) == sum(report.rejected.values())
    _check_cells(table, sent, rejected, mapping, options)
    if not set(sent.column_names) & set(LDU):
        again = Preparer(resolve_mapping(sent.column_names, {name: name for name in sent.column_names}), value_based=options.get("value_based", False))  # fmt: skip
        assert pa.Table.from_batches([again.prepare(batch) for batch in sent.to_batches()], sent.schema).equals(sent)


def _check_cells(table: pa.Table, sent: pa.Table, rejected: list[int], mapping: Any, options: dict[str, Any]) -> None:
    """Compare the cells of keys that one text column feeds with what the rule for one cell gives, row by row."""
    gone = set(rejected)
    left = [row for row in range(table.num_rows) if row + 1 not in gone]
    country = mapping.sources.get("COUNTRY", ())
    if len(country) > 1 or any(table.schema.field(source.column).type != pa.string() for source in country):
        return
    where = table.column(country[0].column).to_pylist() if country else [None] * table.num_rows
    default = None if options["default_country"] is None else country_of_cell(options["default_country"])
    for key, sources in mapping.sources.items():
        if key in LDU or key not in sent.column_names or len(sources) > 1 or key == "LOOKALIKE_VALUE":
            continue
        if table.schema.field(sources[0].column).type != pa.string():
            continue
        cells = table.column(sources[0].column).to_pylist()
        hashed = {name.upper(): told for name, told in options.get("hashed", {}).items()}.get(key)
        for row, cell in zip(left, sent.column(key).to_pylist(), strict=True):
            place = Blank.EMPTY if where[row] is None else country_of_cell(where[row])
            known = default if place is Blank.EMPTY else None if isinstance(place, Blank) else place
            context = Context(known if isinstance(known, str) else None, options["transliterate"])
            outcome = identify(
                KEYS[key], cells[row], context, hashed=hashed, whole_date=sources[0].role == "whole_date"
            )
            assert cell == (None if isinstance(outcome, Blank) else outcome), (key, row)


def fuzz(seconds: float, seed: int, most: int | None = None) -> dict[str, int]:
    """Run cases for so long, or so many; give how many became what."""
    became: dict[str, int] = {}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and (most is None or number < most):
        try:
            told = run_case(number, seed)
        except BaseException as error:
            error.add_note(f"case {number} of seed {seed}")
            raise
        became[told] = became.get(told, 0) + 1
        number += 1
    return became


def main() -> int:
    """Fuzz for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this case alone")
    asked = parser.parse_args()
    print(run_case(asked.only, asked.seed) if asked.only is not None else fuzz(asked.minutes * 60, asked.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
