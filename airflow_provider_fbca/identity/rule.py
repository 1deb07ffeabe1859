"""What becomes of one cell: the definition that whole batches are checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_fbca.identity.countries import country_of_digest, normalise_country
from airflow_provider_fbca.identity.digests import digest, read_digest
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import is_placeholder, trim

if TYPE_CHECKING:
    from airflow_provider_fbca.identity.keys import Key, Rule

#: The digest of a hashed key, the text of any other, or why the cell is blank.
Outcome = bytes | str | Blank


def identify(
    key: Key, text: str | None, context: Context, *, hashed: bool | None = None, whole_date: bool = False
) -> Outcome:
    """Give what is sent for one cell: the definition of this package.

    :param key: the identifier key.
    :param text: the cell as text, None where it is null.
    :param context: the row's country, and options.
    :param hashed: True where cells must be SHA-256 digests, False where they are never taken for some, None where a
        cell of 64 hex digits counts as one.
    :param whole_date: whether the cell holds a whole date, of which the key is a part.
    :return: the digest of a hashed key, the text of any other, or why the cell is blank.
    """
    trimmed = trim(text) if text is not None else ""
    if text is None or is_placeholder(trimmed):
        return Blank.EMPTY
    if key.hashed and hashed is not False:
        # The digest of a whole date says nothing of its parts.
        found = None if whole_date else read_digest(trimmed)
        if found is not None:
            return found
        if hashed:
            return Blank.NOT_HASHED
    rule: Rule = key.of_whole_date if whole_date and key.of_whole_date else key.normalise
    value = rule(trimmed if key.trimmed else text, context)
    return digest(value) if key.hashed and isinstance(value, str) else value


def country_of_cell(text: str) -> str | Blank:
    """Give the country that a COUNTRY cell tells the other cells of its row; the cell may be hashed.

    :param text: the cell as text.
    """
    trimmed = trim(text)
    if is_placeholder(trimmed):
        return Blank.EMPTY
    if read_digest(trimmed) is not None:
        return country_of_digest(trimmed.lower()) or Blank.UNKNOWN_COUNTRY
    return normalise_country(trimmed, Context())
