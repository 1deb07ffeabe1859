"""Which columns of a query feed which keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from airflow_provider_fbca.exceptions import MappingError
from airflow_provider_fbca.identity.aliases import fold_name, key_of_column, near_key
from airflow_provider_fbca.identity.keys import KEYS, WHOLE_DATE, usable_combinations

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_PARTS_OF_DATE = ("DOBY", "DOBM", "DOBD")

_NEEDED = (
    "Needed is a column for EMAIL, PHONE, MADID, EXTERN_ID, APPUID or PAGEUID, "
    "or for FN and LN with one of ZIP, CT and a full date of birth (DOB, or DOBY, DOBM and DOBD)."
)


@dataclass(frozen=True, slots=True)
class Source:
    """One column that feeds a key.

    :param column: the column's name in the query.
    :param role: ``value`` where the column holds the key's own value, ``whole_date`` where it holds a date of birth of
        which the key is a part.
    :param reason: ``alias`` where the column's name said so, ``explicit`` where ``columns`` did.
    """

    column: str
    role: Literal["value", "whole_date"]
    reason: Literal["alias", "explicit"]


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """The columns that feed each key; made by :func:`resolve_mapping`.

    :param sources: for each key, its columns; of each row the first usable one counts.
    :param ignored: columns that feed no key.
    """

    sources: Mapping[str, tuple[Source, ...]]
    ignored: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have a column, in the order of schemas."""
        return tuple(name for name in KEYS if name in self.sources)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that feed a key, each once."""
        return tuple(dict.fromkeys(source.column for key in self.keys for source in self.sources[key]))

    def without(self, keys: Collection[str]) -> ColumnMapping:
        """Give the mapping without some keys; columns that feed no other are ignored."""
        sources = {key: columns for key, columns in self.sources.items() if key not in keys}
        fed = {source.column for columns in sources.values() for source in columns}
        return ColumnMapping(sources, (*self.ignored, *(column for column in self.columns if column not in fed)))

    def describe(self) -> list[str]:
        """Give lines for a log: a line for each key, and one for the columns left out. They hold names only."""
        lines = []
        for key in self.keys:
            columns = " then ".join(
                f"{source.column}{' (whole date)' if source.role == 'whole_date' else ''}"
                for source in self.sources[key]
            )
            lines.append(f"{key} <- {columns} [{self.sources[key][0].reason}]")
        if self.ignored:
            lines.append(f"ignored: {', '.join(self.ignored)}")
        return lines


def resolve_mapping(names: Sequence[str], columns: Mapping[str, str | Sequence[str]] | None = None) -> ColumnMapping:
    """Decide which columns feed which keys.

    :param names: the columns of the query, in its order.
    :param columns: column to key, or to several keys, for instance ``{"mail_1": "EMAIL", "born": "DOB", "first":
        ["FN", "FI"]}``. Keys are matched without regard to case, columns too where that is unambiguous. ``DOB`` stands
        for a whole date, which feeds DOBY, DOBM and DOBD. Columns that are not named are ignored. Where several columns
        feed one key, their order here is the order in which they are tried. Without ``columns``, names are matched with
        the table of aliases, after dropping case, blanks and punctuation, and the query's order counts.
    :raises MappingError: a name occurs twice, a column or key is not known, or the keys would find nobody.
    """
    _refuse_duplicates(names)
    taken = _taken_by_alias(names) if columns is None else _taken_as_told(names, columns)
    sources: dict[str, tuple[Source, ...]] = {}
    for column, target, reason in taken:
        if target == WHOLE_DATE:
            for part in _PARTS_OF_DATE:
                sources[part] = (*sources.get(part, ()), Source(column, "whole_date", reason))
        else:
            sources[target] = (*sources.get(target, ()), Source(column, "value", reason))
    used = {column for column, _, _ in taken}
    mapping = ColumnMapping(sources, tuple(name for name in names if name not in used))
    if not usable_combinations(mapping.keys):
        raise MappingError(_nobody_found(mapping, names), remedy=_NEEDED + _near_misses(mapping.ignored))
    return mapping


_Taken = list[tuple[str, str, Literal["alias", "explicit"]]]


def _refuse_duplicates(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise MappingError(
            f"The users have more than one column of the name {_quoted(twice)}.",
            remedy="Give each column a name of its own in the query.",
        )


def _taken_by_alias(names: Sequence[str]) -> _Taken:
    keys = {name: key for name in names if (key := key_of_column(name))}
    months_apart = "DOBM" in keys.values()
    # "birthday" is a date, and "birth day" beside "birth month" a day; without blanks the two read the same.
    return [
        (name, "DOBD" if months_apart and fold_name(name) == "birthday" else key, "alias") for name, key in keys.items()
    ]


def _taken_as_told(names: Sequence[str], columns: Mapping[str, str | Sequence[str]]) -> _Taken:
    taken: _Taken = []
    for column, targets in columns.items():
        name = find_column(names, column)
        for target in targets if isinstance(targets, (list, tuple)) else [targets]:
            entry = (name, _find_key(target, column), "explicit")
            if entry not in taken:
                taken.append((*entry[:2], "explicit"))
    return taken


def find_column(names: Sequence[str], column: str, *, option: str = "columns") -> str:
    """Give the column that is meant.

    :param names: the columns of the query.
    :param column: its name as someone typed it; case counts only where it tells two columns apart.
    :param option: where it was typed, for the message.
    :raises MappingError: there is none; the message has the names that come near.
    """
    if column in names:
        return column
    # Databases change the case of names: Snowflake's are upper-case, PostgreSQL's lower-case.
    alike = [name for name in names if name.casefold() == column.casefold()]
    if len(alike) == 1:
        return alike[0]
    close = {fold_name(name): name for name in names}
    near = [close[name] for name in get_close_matches(fold_name(column), list(close), n=3, cutoff=0.6)]
    hint = f" Did you mean {_quoted(near, 'or')}?" if near else ""
    raise MappingError(
        f"`{option}` names {column!r}, which the users do not have.",
        remedy=f"Their columns are {_quoted(names)}.{hint}",
    )


def _find_key(target: object, column: str) -> str:
    known = (*KEYS, WHOLE_DATE)
    upper = target.strip().upper() if isinstance(target, str) else ""
    if upper in known:
        return upper
    near = get_close_matches(upper, known, n=2, cutoff=0.6)
    by_alias = key_of_column(upper) or near_key(upper)
    if by_alias and by_alias not in near:
        near.insert(0, by_alias)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise MappingError(
        f"`columns` maps {column!r} to {target!r}, which is no key.{hint}", remedy=f"The keys are {', '.join(known)}."
    )


def _nobody_found(mapping: ColumnMapping, names: Sequence[str]) -> str:
    if not names:
        return "The users have no columns."
    if not mapping.keys:
        return f"None of the columns {_quoted(names)} is one that finds a person."
    return f"The keys {', '.join(mapping.keys)} do not find a person."


def _near_misses(ignored: Sequence[str]) -> str:
    hints = [f"{name!r} looks like {key}" for name in ignored if (key := near_key(name))]
    hint = f" {'; '.join(hints)}: rename it, or map it with `columns`." if hints else ""
    return f"{hint} Unused columns: {_quoted(ignored)}." if ignored else hint


def _quoted(names: Sequence[str], last: str = "and") -> str:
    quoted = [repr(name) for name in names]
    return f" {last} ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
