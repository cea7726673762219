"""Read protobuf's text format without its schema: fields by name, values as they stand.

The grammar is https://protobuf.dev/reference/protobuf/textformat-spec, less extensions and typed
`Any`. Whether a field may repeat is the schema's to know, so every field is a list here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Message", "TextProtoError", "parse"]

Message = dict[str, list[object]]
"""Name of a field to its values in order: str (names of enums, too), int, float or Message."""

MAX_DEPTH = 32
"""Messages inside of messages; Triton's schema has six."""

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[\w.+-]+)
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CLOSE = {"{": "}", "<": ">"}


class TextProtoError(ValueError):
    """The text is no message; says in which line."""


def parse(text: str) -> Message:
    """The message in a text.

    Raises:
        TextProtoError: It is none.
    """
    return _Parser(text).message(end=None, depth=0)


class _Parser:
    """Recursive descent over tokens; `line` is that of the last one taken."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._line = 1
        self._next: tuple[str, str] | None = None
        self._advance()

    def message(self, end: str | None, depth: int) -> Message:
        if depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} messages inside of each other")
        fields: Message = {}
        while not self._takes(end):
            kind, name = self._take("the name of a field")
            if kind != "word":
                raise self._error(f"{name!r} where the name of a field is expected")
            fields.setdefault(name, []).extend(self._values(depth))
            if not self._takes(","):
                self._takes(";")
        return fields

    def _values(self, depth: int) -> list[object]:
        """After a field's name: one value, or a list of them."""
        colon = self._takes(":")
        if not self._takes("["):
            return [self._value(depth, colon=colon)]
        values: list[object] = []
        while not self._takes("]"):
            values.append(self._value(depth, colon=colon))
            self._takes(",")
        return values

    def _value(self, depth: int, *, colon: bool) -> object:
        kind, token = self._take("a value")
        if token in _CLOSE and kind == "mark":
            return self.message(_CLOSE[token], depth + 1)
        if kind == "mark" or not colon:
            raise self._error(f"{token!r} where a value is expected")
        if kind == "word":
            return _scalar(token)
        parts = [_unquoted(token)]
        while self._next is not None and self._next[0] == "string":  # "a" "b" is one string
            parts.append(_unquoted(self._take("a string")[1]))
        return "".join(parts)

    def _take(self, expected: str) -> tuple[str, str]:
        if self._next is None:
            raise self._error(f"the text ends where {expected} is expected")
        taken = self._next
        self._advance()
        return taken

    def _takes(self, mark: str | None) -> bool:
        """Whether the next token is this mark, or with None the end; if so, it is taken."""
        if mark is None or self._next != ("mark", mark):
            return mark is None and self._next is None
        self._advance()
        return True

    def _advance(self) -> None:
        following = next(self._tokens, None)
        self._next = following and (following[1], following[2])
        self._line = following[0] if following else self._line

    def _error(self, what: str) -> TextProtoError:
        return TextProtoError(f"line {self._line}: {what}")


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, kind and text of every token."""
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise TextProtoError(f"line {line}: {text[position : position + 20]!r}")
        if match.lastgroup != "skip":
            yield line, match.lastgroup, match.group()
        line += match.group().count("\n")
        position = match.end()


def _scalar(word: str) -> object:
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _unquoted(string: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), string[1:-1])
