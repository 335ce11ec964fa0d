import pytest

from inference.providers.sse import MAX_EVENT_BYTES, Event, EventParser, EventTooLarge

STREAM = (
    ": a comment\n\n"
    "data: one\n\n"
    "event: named\r\ndata: two\r\ndata:  indented\r\n\r\n"
    "data: ünïcödé 🗼\u2028 stays one line\n\n"
    "id: 7\nretry: 10\ndata\n\n"
    "event: without data\n\n"
    "data:{}\r\r\n"
    "data: never ended"
).encode()
EVENTS = [
    Event("message", "one"),
    Event("named", "two\n indented"),
    Event("message", "ünïcödé 🗼\u2028 stays one line"),
    Event("message", ""),
    Event("message", "{}"),
]


def parse(*parts: bytes) -> list[Event]:
    parser = EventParser()
    return [event for part in parts for event in parser.feed(part)]


def test_events_of_one_piece() -> None:
    assert parse(STREAM) == EVENTS


def test_events_cut_at_every_byte() -> None:
    for at in range(len(STREAM)):
        assert parse(STREAM[:at], STREAM[at:]) == EVENTS


def test_events_byte_by_byte() -> None:
    assert parse(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


def test_nothing_in_nothing() -> None:
    assert parse(b"", b"\n", b"\n\n") == []


@pytest.mark.parametrize("part", [b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
def test_an_endless_event_is_refused(part: bytes) -> None:
    with pytest.raises(EventTooLarge):
        parse(*[part] * (MAX_EVENT_BYTES // 1000 + 1))


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        parse(b"data: \xff\n\n")


@pytest.mark.parametrize(
    ("parts", "events"),
    [
        ((b"data: a\nb", b"\n\n"), [Event("message", "a")]),
        ((b"data: a\n", b"data: b\n\n"), [Event("message", "a\nb")]),
        ((b"event: n\n", b"data: a\n\n"), [Event("n", "a")]),
        ((b"da", b"ta: a\n\n", b"data: b\n\n"), [Event("message", "a"), Event("message", "b")]),
        ((b"data: a\r\n\n", b"data: b\n\n"), [Event("message", "a"), Event("message", "b")]),
    ],
)
def test_a_read_that_looks_like_one_whole_event(parts: tuple[bytes, ...], events: list[Event]) -> None:
    assert parse(*parts) == events
