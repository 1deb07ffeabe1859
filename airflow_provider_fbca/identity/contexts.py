"""The contexts of a run, numbered, so that Arrow can carry one for each row as a small integer."""

from __future__ import annotations

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.rule import country_of_cell


class Contexts:
    """The contexts that rows have had so far.

    :param default_country: the country of rows that name none, as a lower-case code; None for none.
    :param transliterate: the option of every context.
    """

    #: The context of rows whose COUNTRY cannot be read; all numbers above it stand for a country.
    UNREADABLE = 0
    #: The context of rows that name no country, or the default one.
    DEFAULT = 1

    def __init__(self, default_country: str | None, transliterate: bool) -> None:
        self._transliterate = transliterate
        self._contexts = [Context(None, transliterate), Context(default_country, transliterate)]
        self._numbers: dict[str, int] = {} if default_country is None else {default_country: self.DEFAULT}

    def __len__(self) -> int:
        return len(self._contexts)

    def __getitem__(self, number: int) -> Context:
        return self._contexts[number]

    def number_of(self, text: str) -> int | None:
        """Give the number of the context of a COUNTRY cell, None where the cell is blank.

        :param text: the cell.
        """
        country = country_of_cell(text)
        if country is Blank.EMPTY:
            return None
        if isinstance(country, Blank):
            return self.UNREADABLE
        if country not in self._numbers:
            self._numbers[country] = len(self._contexts)
            self._contexts.append(Context(country, self._transliterate))
        return self._numbers[country]
