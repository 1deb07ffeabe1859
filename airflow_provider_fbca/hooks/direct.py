"""Users as they come, made ready to be sent at once, past the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_fbca.identity import ATTRIBUTES, Preparer, resolve_mapping
from airflow_provider_fbca.warehouse import open_arrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa


def prepared(
    users: object,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    default_country: str | None = None,
    transliterate: bool = False,
    hashed: Mapping[str, bool] | None = None,
    value_based: bool = False,
    limited_data_use: bool | Mapping[str, int] = False,
    removal: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield users as record batches that can be sent.

    :param users: anything with ``__arrow_c_stream__``.
    :param removal: whether they are to be removed, for which only identifiers count; the other parameters are those of
        the operators.
    :raises MappingError: where the columns make no usable identifier.
    """
    with open_arrow(users) as source:
        mapping = resolve_mapping(source.names, columns)
        preparer = Preparer(
            mapping.without(ATTRIBUTES) if removal else mapping,
            default_country=default_country,
            transliterate=transliterate,
            hashed=hashed,
            value_based=value_based and not removal,
            limited_data_use=False if removal else limited_data_use,
        )
        for batch in source.batches():
            yield preparer.prepare(batch)


def row_count(users: object) -> int:
    """Return how many rows there are where that is known before reading them, else 0."""
    return int(getattr(users, "num_rows", 0))
