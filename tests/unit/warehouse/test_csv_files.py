"""Users from CSV files."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse import open_uri

SECRET = "zoe.secret@example.com"
HEADER = "email,zip\n"


@pytest.fixture
def rows_of(tmp_path):
    """Gives the rows of a CSV file, after writing it."""

    def read(text: str | bytes, name: str = "users.csv", **options: object) -> list[dict]:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with open_uri(str(tmp_path / name), **options) as source:
            return [row for batch in source.batches() for row in batch.to_pylist()]

    return read


@pytest.fixture
def refused(rows_of, holds_no):
    """Checks that a CSV file is refused for good, by its name and without a word of what is in it."""

    def check(text: str | bytes, told: str, name: str = "users.csv") -> None:
        with pytest.raises(SourceError, match=told) as caught:
            rows_of(text, name)
        assert caught.value.permanent
        assert name in str(caught.value)
        for word in ("secret", "zoe", "02108"):
            holds_no(caught.value, word)

    return check


@pytest.mark.parametrize(
    "cell",
    ["00123", "1.50", "1e5", "true", "NULL", "nan", "2024-01-01", "2024-01-01 00:00:00Z", "+49 170", " a ", "Zoë"],
)
def test_every_cell_is_text_and_nothing_is_lost_of_it(rows_of, cell):
    assert rows_of(f"{HEADER}x,{cell}\ny,{cell}\n") == [{"email": "x", "zip": cell}, {"email": "y", "zip": cell}]


def test_an_empty_cell_is_null_and_a_quoted_one_is_text(rows_of):
    assert rows_of(HEADER + 'a,\n"",""\n,b\n') == [
        {"email": "a", "zip": None},
        {"email": "", "zip": ""},
        {"email": None, "zip": "b"},
    ]


def test_quotes_hold_commas_quotes_and_line_breaks(rows_of):
    assert rows_of('email,"home,\ntown"\n"a ""b""","x,\r\ny"\n') == [{"email": 'a "b"', "home,\ntown": "x,\r\ny"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_as_they_like(rows_of, end, last):
    lines = end.join(["email,zip", "a,1", "b,2"]) + (end if last else "")
    assert rows_of(lines) == [{"email": "a", "zip": "1"}, {"email": "b", "zip": "2"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(rows_of):
    assert rows_of(b"\xef\xbb\xbf" + HEADER.encode() + b"a,1\n") == [{"email": "a", "zip": "1"}]


def test_tabs_separate_the_cells_of_tsv(rows_of):
    assert rows_of("email\tzip\na,b\t01\n", "users.TSV") == [{"email": "a,b", "zip": "01"}]
    assert rows_of(gzip.compress(b"email\tzip\na,b\t01\n"), "users.tsv.gz") == [{"email": "a,b", "zip": "01"}]


def test_a_line_without_anything_is_no_row_but_in_a_single_column_it_is_one(rows_of):
    assert len(rows_of(HEADER + "a,1\n\nb,2\n\n")) == 2
    assert rows_of('email\na\n\n""\n') == [{"email": "a"}, {"email": None}, {"email": ""}]


@pytest.mark.parametrize("text", ["email,zip", "email,zip\n", "email,zip\r\n"])
def test_a_header_alone_is_a_file_without_rows(rows_of, text):
    assert rows_of(text) == []


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("users.csv.gz", gzip.compress),
        ("users.csv.zst", lambda text: pa.compress(text, "zstd", asbytes=True)),
        # As a store that unpacks what it hands out names it, and one that packs it.
        ("users.csv.gz", bytes),
        ("users.csv", gzip.compress),
        # Some writers begin anew now and then.
        ("users.csv.gz", lambda text: gzip.compress(text[:13]) + gzip.compress(text[13:])),
    ],
)
def test_compression_is_told_by_the_file_itself(rows_of, name, compress):
    text = HEADER + "".join(f"p{n}@example.com,{n:05}\n" for n in range(3000))
    rows = rows_of(compress(text.encode()), name)
    assert rows == list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("compress", [gzip.compress, lambda text: pa.compress(text, "zstd", asbytes=True)])
def test_a_compressed_file_that_was_cut_off_gives_an_error_and_not_fewer_rows(rows_of, compress):
    whole = compress("".join([HEADER, *(f"{os.urandom(9).hex()},{n}\n" for n in range(30_000))]).encode())
    for end in (len(whole) // 2, len(whole) - 4):
        with pytest.raises(SourceError, match="OSError"):
            rows_of(whole[:end], "users.csv.gz")


def test_parquet_by_another_name_is_parquet(tmp_path):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "users.csv")
    with open_uri(str(tmp_path / "users.csv")) as source:
        assert source.route == "parquet"
        assert next(source.batches())["n"].to_pylist() == [1]


def test_a_folder_may_hold_csv_beside_other_formats(tmp_path):
    (tmp_path / "1.csv").write_text("zip,email\n01,a\n")
    (tmp_path / "2.csv.gz").write_bytes(gzip.compress(b"email,zip\nb,02\n"))
    pq.write_table(pa.table({"email": ["c"], "zip": [3]}), tmp_path / "3.parquet")
    with open_uri(str(tmp_path)) as source:
        assert source.names == ("zip", "email")
        rows = [row for batch in source.batches() for row in batch.to_pylist()]
    assert rows == [{"zip": "01", "email": "a"}, {"zip": "02", "email": "b"}, {"zip": 3, "email": "c"}]


@pytest.mark.parametrize("row", [f"{SECRET},02108,more", SECRET])
@pytest.mark.parametrize("before", [0, 100_000])
def test_a_row_of_other_length_is_named_by_its_number(refused, row, before):
    refused(HEADER + "a,1\n" * before + f"{row}\nb,2\n", rf"has {row.count(',') + 1} cells in row {before + 1:,},")


@pytest.mark.parametrize(
    "header",
    [
        SECRET,
        f"Zoe,{SECRET}",
        "zoe,02108",
        "zoe,secret,+49 170 1234567",
        f"zoe,{'ab' * 32}",
        f"zoe,{'AB' * 16}",
        "zoe,1990-05-02",
    ],
)
def test_a_first_line_that_is_a_person_is_refused_and_not_taken_for_names(refused, header):
    refused(f"{header}\n{header}\n", "has no header: in its first line, place")


@pytest.mark.parametrize("text", ["", "\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_a_file_without_anything_has_no_header(refused, text):
    refused(text, "has no header: its first line is empty")


@pytest.mark.parametrize("names", ["email,,zip", ",email"])
def test_a_column_without_a_name_is_told_by_its_place(rows_of, names):
    with pytest.raises(SourceError, match="without a name, at place"):
        rows_of(f"{names}\na,b,c\n")


def test_columns_of_one_name_are_refused(rows_of):
    with pytest.raises(SourceError, match="more than one column named 'email'"):
        rows_of("email,zip,email\na,b,c\n")


@pytest.mark.parametrize("place", [1, 200_000])
def test_bytes_that_are_no_text_are_refused(refused, place):
    refused(HEADER.encode() + b"a,1\n" * place + f"{SECRET},".encode() + b"\xff\n", "is no UTF-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_refused(refused, encoding):
    refused(f"{HEADER}{SECRET},02108\n".encode(encoding), "has no header|neither Parquet nor Arrow")


def test_a_quote_that_is_never_closed_is_told_and_does_not_swallow_the_file(refused):
    refused(HEADER + f'"{SECRET},02108\n' + "a,1\n" * 2_000_000, "a quote that is never closed")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('email,zip\na,"b\nzoe.secret,02108\n', "a quote that is never closed"),
        ('email,zip\na,"b\nzoe.secret,02108', "a quote that is never closed"),
        ('email\na\n"b\nzoe.secret\n', "a quote that is never closed"),
        ('email,"zip\na,b\nzoe.secret,02108\n', "cannot be read"),
    ],
)
def test_rows_behind_a_quote_that_is_open_at_the_end_of_a_small_file_are_not_lost_in_silence(refused, text, told):
    refused(text, told)


def test_the_end_of_a_file_of_one_column_is_no_row(rows_of):
    for end in ("", "\n", "\r\n", "\r"):
        assert rows_of(f"email{end or chr(10)}a{end}") == [{"email": "a"}]
    assert rows_of("email\n\n") == [{"email": None}]


def test_a_row_may_be_long(rows_of):
    long = "x" * 700_000
    assert rows_of(f"{HEADER}{long},1\n{long},2\n") == [{"email": long, "zip": "1"}, {"email": long, "zip": "2"}]


def test_a_file_of_another_kind_is_refused_without_its_words(refused):
    refused(f"{HEADER}{SECRET},02108\n", "neither Parquet nor Arrow IPC, nor CSV by its name", "users.txt")


def test_batches_are_cut(tmp_path):
    (tmp_path / "users.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(1000)))
    with open_uri(str(tmp_path / "users.csv"), batch_rows=300) as source:
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) <= 300
    assert [row["n"] for batch in batches for row in batch.to_pylist()] == [str(n) for n in range(1000)]


def test_memory_does_not_grow_with_a_wide_file(tmp_path):
    path = tmp_path / "users.csv"
    columns = 500
    row = ",".join("0123456789" for _ in range(columns)) + "\n"

    def peak(rows: int) -> int:
        with path.open("w") as file:
            file.write(",".join(f"c{n}" for n in range(columns)) + "\n")
            for _ in range(rows // 1000):
                file.write(row * 1000)
        before = pa.total_allocated_bytes()
        most = read = 0
        tracemalloc.start()
        with open_uri(str(path)) as source:
            for batch in source.batches():
                most = max(most, pa.total_allocated_bytes() - before)
                read += batch.num_rows
        most += tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert read == rows
        return most

    peak(1000)
    assert peak(40_000) < 1.5 * peak(15_000)
    assert path.stat().st_size > 80_000_000


cells = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))


@given(st.lists(st.tuples(cells, cells), max_size=20), st.sampled_from("\n\r"), st.sampled_from([",", "\t"]))
def test_what_a_writer_quotes_comes_back(tmp_path_factory, rows, end, delimiter):
    def written(cell: str | None) -> str:
        return "" if cell is None else '"' + cell.replace('"', '""') + '"'

    lines = [delimiter.join(["email", "zip"]), *(delimiter.join(map(written, row)) for row in rows)]
    path = tmp_path_factory.mktemp("csv") / ("users.csv" if delimiter == "," else "users.tsv")
    path.write_bytes(("".join(line + end for line in lines)).encode())
    with open_uri(str(path)) as source:
        assert [tuple(row.values()) for batch in source.batches() for row in batch.to_pylist()] == rows
