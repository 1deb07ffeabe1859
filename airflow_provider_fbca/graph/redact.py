"""What of Meta's own error texts may be shown: nothing that could be a person's value or a credential.

Meta's messages name parameters and rules, but an error about data may quote the cell at fault.
"""

from __future__ import annotations

import re

#: The longest text of Meta's that an error carries.
LONGEST = 300

_HIDDEN = "[...]"
# Order matters: what is quoted goes first and whole, then whatever looks like a value where it stands.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"https?://\S+",
        r"[\[{][^\]}]*[\]}]",
        r"\S+@\S+",
        r"\b[0-9A-Fa-f]{32,}\b",
        r"(?<!\S)(?!\(?v\d+\.\d+\b)(?!\S*SHA256)(?=\S*\d)(?=\S*[^\W\d_])\S+",
        r"\b\w{40,}\b",
        r"\+?\d[\d ()./-]{5,}\d",
    )
)
_QUOTED = re.compile(r"""(["'`\u201c\u2018\xab])(.*?)(["'`\u201d\u2019\xbb])(?!\w)""", re.DOTALL)
#: Names of Meta's parameters, keys and fields: what may stay in quotation marks.
_NAME = re.compile(r"[A-Z][A-Z_]{2,}|[a-z]+(_[a-z]+)+|payload|schema|data|session|name|fields|method")


def safe_text(text: object, *, limit: int = LONGEST) -> str:
    """Cut a text of Meta's down to what is safe to log.

    Hidden are web addresses, e-mail addresses, digests, tokens, words that mix letters and digits, phone numbers and
    other long numbers, whatever stands in brackets, and whatever stands in quotation marks unless it is the name of a
    parameter.

    :param text: any value; all but text gives the empty string.
    :param limit: the most characters to return.
    :returns: one line.
    """
    if not isinstance(text, str):
        return ""
    # A far longer text is cut first: the patterns should not work through megabytes.
    printable = "".join(character if character.isprintable() else " " for character in text[: 10 * limit])
    line = " ".join(printable.split())
    line = _QUOTED.sub(lambda match: match[0] if _NAME.fullmatch(match[2]) else _HIDDEN, line)
    for pattern in _PATTERNS:
        line = pattern.sub(_HIDDEN, line)
    return line if len(line) <= limit else line[: limit - 3] + "..."
