"""Makes sure that the SQL is one statement, without touching its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlparse import lexer, tokens

from airflow_provider_fbca.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_tokenize: Callable[[str], Iterable[tuple[Any, str]]] = lexer.tokenize


def single_statement(sql: str, *, origin: str) -> str:
    """Give the one statement of ``sql``, without its closing semicolon and the comments after that.

    Comments inside the statement stay: some are hints to the optimizer.

    :param sql: what the user wrote.
    :param origin: the connection, for the message.
    :raises SourceError: there is no statement, or more than one.
    """
    statements: list[list[str]] = [[]]
    has_code = [False]
    for kind, text in _tokenize(sql):
        if kind is tokens.Punctuation and text == ";":
            statements.append([])
            has_code.append(False)
            continue
        statements[-1].append(text)
        has_code[-1] |= kind not in tokens.Comment and kind not in tokens.Whitespace
    spoken = ["".join(texts).strip() for texts, is_code in zip(statements, has_code, strict=True) if is_code]
    if not spoken:
        raise SourceError(f"The SQL for {origin} holds no statement.", permanent=True)
    if len(spoken) > 1:
        raise SourceError(
            f"The SQL for {origin} holds {len(spoken)} statements, and the users come from one query.",
            remedy="Prepare what the query needs in a task before this one.",
            permanent=True,
        )
    return spoken[0]


def first_word(sql: str) -> str:
    """Give the word that a statement begins with, in capitals; brackets before it are passed over.

    :param sql: one statement.
    :return: ``SELECT``, ``WITH``, ``SHOW``; empty where it begins with none.
    """
    for kind, text in _tokenize(sql):
        if kind in tokens.Comment or kind in tokens.Whitespace or text == "(":
            continue
        return text.upper() if kind in tokens.Keyword or kind in tokens.Name else ""
    return ""
