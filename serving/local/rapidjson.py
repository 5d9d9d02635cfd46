"""JSON as RapidJSON reads it: the dialect and the error texts of TF Serving's REST.

Differences from strict JSON: NaN and Infinity are values, whatever follows the first value is
ignored, bytes outside ASCII are not validated. Python's C scanner reads what it agrees on; the
parser below is the truth for the rest, and finds the place of every error.

RapidJSON (iterative parser, NaN and infinity, stop when done): https://rapidjson.org
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from bnpipe.serving.local.json_text import format_error
from bnpipe.serving.local.status import StatusError, invalid

# Escapes of surrogates and numbers beyond the range of a double are judged differently by Python.
_LARGE_EXPONENT = re.compile(rb"[eE]\+?0*[3-9][0-9]{2}")
_ALL_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_VERY_LONG = b"0" * 300
_SPACE = re.compile(rb"[ \n\r\t]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_BOM = b"\xef\xbb\xbf"

_INVALID_VALUE = "Invalid value."
_NO_NAME = "Missing a name for object member."


def parse_object(body: bytes) -> dict[str, Any]:
    """The object at the start of a request body.

    Raises:
        StatusError: it is not JSON, or its first value is not an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    value = _parse(body)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return value


def _parse(body: bytes) -> Any:
    body = body.removeprefix(_BOM)
    try:
        if not _needs_care(body):
            decoded = body.decode("utf-8", "surrogateescape")
            return _DECODER.raw_decode(decoded, _end(_SPACE, body, 0))[0]
    except ValueError:
        pass
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    try:
        return Parser(body).value()
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None


def _needs_care(body: bytes) -> bool:
    return (
        b"\\u" in body
        or _LARGE_EXPONENT.search(body) is not None
        or _VERY_LONG in body.translate(_ALL_DIGITS_ALIKE)
    )


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RapidJSON finds the first of several members with one name."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins)


class Parser:
    """Reads one value; errors as RapidJSON names and places them."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def value(self) -> Any:
        """The value at the start.

        Raises:
            StatusError: there is none.
        """
        self._skip_space()
        if self._at == len(self._body):
            raise self._error("The document is empty.")
        return self._value()

    def _value(self) -> Any:
        match self._peek():
            case b"{":
                return self._object()
            case b"[":
                return self._array()
            case b'"':
                return self._string()
            case b"t":
                return self._word(b"true", True)
            case b"f":
                return self._word(b"false", False)
            case b"n":
                return self._word(b"null", None)
        return self._number()

    def _object(self) -> dict[str, Any]:
        self._at += 1
        pairs: list[tuple[str, Any]] = []
        self._skip_space()
        while self._peek() != b"}" or pairs:
            if self._peek() != b'"':
                raise self._error(_NO_NAME)
            name = self._string()
            self._skip_space()
            self._expect(b":", "Missing a colon after a name of object member.")
            pairs.append((name, self._member()))
            if self._peek() == b"}":
                break
            self._expect(b",", "Missing a comma or } after an object member.")
        self._at += 1
        return _first_wins(pairs)

    def _member(self) -> Any:
        value = self._value()
        self._skip_space()
        return value

    def _array(self) -> list[Any]:
        self._at += 1
        found: list[Any] = []
        self._skip_space()
        while self._peek() != b"]" or found:
            found.append(self._member())
            if self._peek() == b"]":
                break
            self._expect(b",", "Missing a comma or ] after an array element.")
        self._at += 1
        return found

    def _word(self, word: bytes, value: Any) -> Any:
        for letter in word:
            if self._peek() != bytes([letter]):
                raise self._error(_INVALID_VALUE)
            self._at += 1
        return value

    def _number(self) -> int | float:
        start = self._at
        sign = -1 if self._take(b"-") else 1
        if self._peek() in (b"N", b"I"):
            return sign * self._nan_or_infinity()
        if not self._take(b"0") and not self._digits():
            raise self._error(_INVALID_VALUE)
        whole = True
        if self._take(b"."):
            whole = False
            if not self._digits():
                raise self._error("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            whole = False
            if not self._take(b"+"):
                self._take(b"-")
            if not self._digits():
                raise self._error("Miss exponent in number.")
        token = self._body[start : self._at]
        # Python refuses to convert very long integers; they are no integers here either.
        if whole and len(token) < 22:
            return int(token)
        number = float(token)
        if math.isinf(number):
            raise self._error("Number too big to be stored in double.", start)
        return number

    def _nan_or_infinity(self) -> float:
        if self._peek() == b"N":
            return float(self._word(b"NaN", math.nan))
        self._word(b"Inf", None)
        if self._peek() == b"i":
            self._word(b"inity", None)
        return math.inf

    def _string(self) -> str:
        self._at += 1
        parts = bytearray()
        while True:
            start, self._at = self._at, _end(_PLAIN, self._body, self._at)
            parts += self._body[start : self._at]
            match self._peek():
                case b'"':
                    self._at += 1
                    return parts.decode("utf-8", "surrogateescape")
                case b"\\":
                    parts += self._escape()
                case b"" | b"\0":
                    raise self._error("Missing a closing quotation mark in string.")
                case _:
                    raise self._error("Invalid encoding in string.")

    def _escape(self) -> bytes:
        start = self._at
        letter = self._body[start + 1 : start + 2]
        if letter == b"u":
            return self._unicode_escape(start)
        if not letter or letter[0] not in _ESCAPES:
            raise self._error("Invalid escape character in string.", start)
        self._at += 2
        return bytes([_ESCAPES[letter[0]]])

    def _unicode_escape(self, start: int) -> bytes:
        unit = self._hex(start + 2, start)
        if 0xD800 <= unit <= 0xDFFF:
            wrong = self._error("The surrogate pair in string is invalid.", start)
            if unit >= 0xDC00 or self._body[self._at : self._at + 2] != b"\\u":
                raise wrong
            low = self._hex(self._at + 2, start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise wrong
            unit = 0x10000 + ((unit - 0xD800) << 10) + low - 0xDC00
        return chr(unit).encode()

    def _hex(self, at: int, escape: int) -> int:
        digits = _HEX.match(self._body, at)
        if digits is None:
            raise self._error("Incorrect hex digit after \\u escape in string.", escape)
        self._at = digits.end()
        return int(digits[0], 16)

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, expected: bytes) -> bool:
        found = self._peek() == expected
        self._at += found
        return found

    def _expect(self, expected: bytes, error: str) -> None:
        if not self._take(expected):
            raise self._error(error)
        self._skip_space()

    def _digits(self) -> bool:
        start, self._at = self._at, _end(_DIGITS, self._body, self._at)
        return self._at > start

    def _skip_space(self) -> None:
        self._at = _end(_SPACE, self._body, self._at)

    def _error(self, what: str, at: int | None = None) -> StatusError:
        return invalid(f"JSON Parse error: {what} at offset: {self._at if at is None else at}")


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    """Where a match that may be empty ends."""
    found = pattern.match(body, at)
    return found.end() if found else at
