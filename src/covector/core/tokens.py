"""The tokens of the textual form of programs."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from covector.core.numerals import NUMBER


class ParseError(ValueError):
    """A text is not a program; the message shows the line."""


DTYPE = r"(?:bool|float0|bf16|[fiu]\d+|c\d+|key<\w+>)"
_TOKEN = re.compile(
    "|".join(
        [
            r"(?P<blank>[ \t\r]+)",
            r"(?P<newline>\n)",
            rf"(?P<number>{NUMBER})",
            r"(?P<comment>\#[^\n]*)",
            rf"(?P<aval>~?{DTYPE}\[[^\]\n]*\])",
            r"(?P<string>b?'(?:[^'\\\n]|\\.)*'|b?\"(?:[^\"\\\n]|\\.)*\")",
            r"(?P<opaque><(?:callable|object|primitive) [^<>\n]+>)",
            rf"(?P<dtype>{DTYPE}(?![\w.]))",
            r"(?P<name>[^\W\d][\w.]*(?:-[A-Za-z]\w*)*)",
            r"(?P<reference>@\w+)",
            r"(?P<effect>!\w+)",
            r"(?P<mark>->|\.\.\.|.)",
        ]
    )
)


class Token(NamedTuple):
    """A piece of text; `kind` is the group of the pattern that it matches, or "end"."""

    kind: str
    text: str
    position: int


class Tokens:
    """A cursor over the tokens of a text.

    Line ends and comments are tokens: they end equations. Blanks are not.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._tokens = [
            Token(match.lastgroup or "", match.group(), match.start())
            for match in _TOKEN.finditer(text)
            if match.lastgroup != "blank"
        ]
        # Twice, so that looking one token ahead is always possible.
        self._tokens += [Token("end", "", len(text))] * 2

    @property
    def current(self) -> Token:
        return self._tokens[self.at]

    @property
    def following(self) -> Token:
        return self._tokens[self.at + 1]

    def take(self) -> Token:
        """The current token; moves past it."""
        token = self._tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def accept(self, text: str) -> bool:
        """Moves past the current token if it is `text`."""
        if self._tokens[self.at].text != text:
            return False
        self.at += 1
        return True

    def adjacent(self, text: str) -> bool:
        """Whether the current token is `text` and follows the previous one without a blank."""
        current, previous = self._tokens[self.at], self._tokens[self.at - 1]
        return current.text == text and current.position == previous.position + len(previous.text)

    def expect(self, text: str) -> None:
        """Moves past the current token, which must be `text`."""
        if not self.accept(text):
            self.fail(f"expected {text!r}")

    def expect_kind(self, kind: str, what: str) -> str:
        """The text of the current token, which must be of a kind."""
        if self._tokens[self.at].kind != kind:
            self.fail(f"expected {what}")
        return self.take().text

    def skip_blank(self) -> None:
        """Moves past line ends and comments, where they separate nothing."""
        while self._tokens[self.at].kind in ("newline", "comment"):
            self.at += 1

    def separator(self, closing: str) -> None:
        """Moves past a comma, or up to the closing bracket."""
        self.skip_blank()
        if self.accept(","):
            self.skip_blank()
        elif self.current.text != closing:
            self.fail(f"expected ',' or {closing!r}")

    def expression(self) -> str:
        """The text up to the next comma, colon or closing bracket that is not in parentheses."""
        first = self.current.position
        depth = 0
        while True:
            kind, text, position = self.current
            if kind in ("end", "newline") or (depth == 0 and text in ",:]})"):
                return self.text[first:position].strip()
            depth += (text == "(") - (text == ")")
            self.at += 1

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raises an error that shows the line.

        Args:
            message: what is wrong.
            at: the index of the token it is about, by default the current one.
        """
        _, found, position = self._tokens[self.at if at is None else at]
        number = self.text.count("\n", 0, position) + 1
        start = self.text.rfind("\n", 0, position) + 1
        end = self.text.find("\n", start)
        line = self.text[start : end if end >= 0 else len(self.text)]
        shown = {"": "the end of the text", "\n": "the end of the line"}.get(found, repr(found))
        marker = " " * (position - start) + "^"
        raise ParseError(f"line {number}: {message}; found {shown}\n  {line}\n  {marker}")
