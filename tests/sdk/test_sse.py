"""Server-sent events, however they are cut: WHATWG HTML, section 9.2.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.sources.sse import Message, Parser, TooLong


def read(octets: bytes, sizes: list[int] | None = None) -> list[Message]:
    parser = Parser()
    messages: list[Message] = []
    for size in sizes or []:
        messages += parser.feed(octets[:size])
        octets = octets[size:]
    return [*messages, *parser.feed(octets)]


@pytest.mark.parametrize(
    ("octets", "messages"),
    [
        (b"data: a\n\n", [Message("message", "a", "")]),
        (b"data: a\r\n\r\n", [Message("message", "a", "")]),
        (b"data: a\r\r", [Message("message", "a", "")]),
        (b"data: a\r\n\ndata: b\r\r\n", [Message("message", "a", ""), Message("message", "b", "")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Message("message", "a", "")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Message("message", "a", "")]),
        (b"data:a\ndata:  b\ndata\n\n", [Message("message", "a\n b\n", "")]),
        (b"data\n\n", [Message("message", "", "")]),
        (b'data: {"a": 1}\n\n', [Message("message", '{"a": 1}', "")]),
        (
            b"event: beat\ndata: a\n\ndata: b\n\n",
            [Message("beat", "a", ""), Message("message", "b", "")],
        ),
        (b"event: beat\n\ndata: b\n\n", [Message("message", "b", "")]),
        (b"id: 7\n\ndata: a\n\ndata: b\n\n", [Message("message", x, "7") for x in "ab"]),
        (
            b"id: 7\ndata: a\n\nid\ndata: b\n\n",
            [Message("message", "a", "7"), Message("message", "b", "")],
        ),
        (b"id: 7\nid: 8\0\ndata: a\n\n", [Message("message", "a", "7")]),
        (b": silence\n\n:\n\ndata: a\n\n", [Message("message", "a", "")]),
        (b"Data: a\n data: b\ndata : c\nother: d\n\n", []),
        (b"data: never ended\n", []),
        (b"data: never ended", []),
        (b"data: \xf0\x9f\x8e\xb2\xff\n\n", [Message("message", "\U0001f3b2\ufffd", "")]),
        (b"", []),
    ],
)
def test_what_is_read(octets: bytes, messages: list[Message]):
    assert read(octets) == messages
    assert read(octets, [1] * len(octets)) == messages


pieces = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"12",
        b"a",
        b"\xef\xbb\xbf",
        b"\xc3\xa4",
        b"\xf0\x9f\x8e\xb2",
        b"\xff",
        b"\xe2\x80\xa8",
        b"data: x\n\n",
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 7), max_size=60))
def test_the_cuts_do_not_matter(octets: bytes, sizes: list[int]):
    assert read(octets, sizes) == read(octets)


@given(st.binary(max_size=200), st.lists(st.integers(0, 5), max_size=40))
def test_the_cuts_do_not_matter_to_nonsense(octets: bytes, sizes: list[int]):
    assert read(octets, sizes) == read(octets)


@pytest.mark.parametrize(
    ("field", "milliseconds"),
    [
        (b"retry: 2000", 2000),
        (b"retry:0", 0),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry", None),
        (b"retry: " + b"9" * 5000, None),
        ("retry: ٣".encode(), None),
    ],
)
def test_how_long_to_wait(field: bytes, milliseconds: int | None):
    parser = Parser()
    list(parser.feed(field + b"\n\n"))

    assert parser.retry_ms == milliseconds


@pytest.mark.parametrize(
    "octets", [b"data: " + b"x" * 2000, b"data: x\n" * 2000, b"data\n" * 2000, b"x" * 2000]
)
def test_a_message_without_end_is_refused(octets: bytes):
    parser = Parser(limit=1000)

    def feed() -> None:
        for start in range(0, len(octets), 100):
            list(parser.feed(octets[start : start + 100]))

    with pytest.raises(TooLong):
        feed()


def test_messages_within_the_limit_may_come_for_ever():
    parser = Parser(limit=1000)

    assert sum(len(list(parser.feed(b"data: " + b"x" * 900 + b"\n\n"))) for _ in range(50)) == 50
