"""Users from CSV: every cell is text, and memory is bounded by the longest row."""

from __future__ import annotations

import csv
import io
import re
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

from airflow_provider_fbca.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.warehouse.stores import StoreFile

_NAME = re.compile(r"\.([ct])sv(\.gz|\.zst)?$", re.IGNORECASE)
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# What is parsed at a time. A row must be shorter; Arrow reads up to 32 of these ahead.
_BLOCK_BYTES = 1024 * 1024
# What is asked of the store at a time.
_READ_BYTES = 4 * 1024 * 1024

# What no name of a column holds: an at sign, a zero byte (a file in UTF-16 is full of them), a byte that is no UTF-8.
_NO_NAME = re.compile("[@\0\ud800-\udfff]")
_DIGEST = re.compile("[0-9a-f]{32,}", re.IGNORECASE)
_WRITING = (
    "Write UTF-8, with a comma (in .tsv a tab) between cells and quotes around those that hold one or a line break."
)


def is_csv(path: str) -> bool:
    """Tell by its name whether a file is CSV: nothing in CSV itself says so."""
    return _NAME.search(path) is not None


class CsvFile:
    """A CSV file with a header, whole or compressed by gzip or Zstandard (told by how it begins).

    A cell without anything in it is null, ``""`` is an empty text. Lines without anything are passed over where there
    is more than one column.

    :param file: open at its start.
    :param path: of the file, for messages and for what separates its cells: tabs in ``.tsv``, else commas.
    :raises SourceError: the first line does not look like names of columns.
    """

    def __init__(self, file: StoreFile, path: str) -> None:
        self._file = file
        self._path = path
        start = file.read(max(map(len, _COMPRESSIONS)))
        self._compression = next((name for sign, name in _COMPRESSIONS.items() if start.startswith(sign)), None)
        self.format = f"csv ({self._compression})" if self._compression else "csv"
        name = _NAME.search(path)
        self._delimiter = "\t" if name and name[1].lower() == "t" else ","
        self.names, self._is_header_alone = self._read_header()
        self._ragged: tuple[int, int] | None = None
        # One cell too many, and like no other row: where Arrow does not find it, a quote before it is open.
        self._last_line = uuid.uuid4().hex + self._delimiter * len(self.names)
        self._is_whole = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows of the file as texts.

        :raises SourceError: a row has more or fewer cells than the header, is no UTF-8, or is too long, or a quote is
            never closed.
        """
        if self._is_header_alone:
            # Arrow takes it for no CSV at all.
            return
        failure = ""
        try:
            reader = self._reader()
            if any(kind != pa.string() for kind in reader.schema.types):
                failure = f"has a header that reads differently in two ways. {_WRITING}"
            else:
                yield from reader
                if not self._is_whole:
                    failure = f"has a quote that is never closed, and all rows after it in one cell. {_WRITING}"
        except pa.ArrowInvalid as error:
            failure = self._told(error)
        if failure:
            raise SourceError(f"CSV file {self._path} {failure}", permanent=True)

    def _reader(self) -> pa_csv.CSVStreamingReader:
        columns = len(self.names)
        return pa_csv.open_csv(
            pa.PythonFile(_WithLastLine(self._bytes(), self._last_line), mode="r"),
            # On one thread, so that rows have numbers.
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=pa_csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                ignore_empty_lines=columns > 1,
                invalid_row_handler=self._note_ragged,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(self.names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _bytes(self) -> pa.NativeFile:
        self._file.seek(0)
        file = pa.PythonFile(self._file, mode="r")
        stream = pa.BufferedInputStream(file, _READ_BYTES)
        return pa.CompressedInputStream(stream, self._compression) if self._compression else stream

    def _read_header(self) -> tuple[list[str], bool]:
        """Give the names of the columns, and whether not even a line break comes after them."""
        head = io.BytesIO(self._bytes().read(_BLOCK_BYTES))
        lines = io.TextIOWrapper(head, "utf-8-sig", errors="surrogateescape", newline="")
        names = next(csv.reader(lines, delimiter=self._delimiter), [])
        odd = [str(place) for place, name in enumerate(names, start=1) if not _may_be_name(name)]
        if not names or odd:
            # Not quoted: in a file without a header this is a person.
            raise SourceError(
                f"CSV file {self._path} has no header: "
                + (
                    f"in its first line, place {', '.join(odd)} is no name of a column."
                    if odd
                    else "its first line is empty."
                ),
                remedy=f"Let the first line name the columns. {_WRITING}",
                permanent=True,
            )
        return names, not set(b"\r\n").intersection(head.getbuffer())

    def _note_ragged(self, row: pa_csv.InvalidRow) -> str:
        if row.text == self._last_line:
            self._is_whole = True
            return "skip"
        self._ragged = (row.number - 1, row.actual_columns)
        return "error"

    def _told(self, error: pa.ArrowInvalid) -> str:
        if self._ragged is not None:
            row, cells = self._ragged
            return (
                f"has {cells} cells in row {row:,}, counted after the header, which has {len(self.names)}. {_WRITING}"
            )
        # Looked at, not quoted: it may go on with the row.
        text = str(error)
        if "UTF8" in text:
            return f"is no UTF-8. {_WRITING}"
        if "straddl" in text:
            return f"has a row longer than {_BLOCK_BYTES:,} bytes, or a quote that is never closed. {_WRITING}"
        return f"cannot be read ({type(error).__qualname__}). {_WRITING}"


class _WithLastLine:
    """A stream with one more line at its end.

    :param stream: to be read from its start.
    :param line: what comes last, without a line break.
    """

    closed = False

    def __init__(self, stream: pa.NativeFile, line: str) -> None:
        self._stream = stream
        self._line = line.encode()
        self._end = b""

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, fewer before the end and at it."""
        data: bytes = self._stream.read(None if size < 0 else size)
        if not data:
            # No line without anything in it must come between.
            line = self._line if self._end in {b"\n", b"\r"} else b"\n" + self._line
            data, self._line = line if self._line else b"", b""
        self._end = data[-1:]
        return data

    def close(self) -> None:
        """Close the stream."""
        self.closed = True
        self._stream.close()


def _may_be_name(text: str) -> bool:
    """Tell whether a text may name a column, and is neither someone's data nor bytes that are no text."""
    if not text:
        # Whoever has the names tells of one that is missing.
        return True
    return any(map(str.isalpha, text)) and not _NO_NAME.search(text) and not _DIGEST.fullmatch(text)
