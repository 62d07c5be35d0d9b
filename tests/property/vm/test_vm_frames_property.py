# SPDX-License-Identifier: Apache-2.0
"""Any bytes at all: a reader of frames and messages parses them or skips them, in any pieces, within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import MalformedError
from volact.vm.frames import ANSWERS, HEADER, MARK, MOST_ANSWER, MOST_REQUEST, REQUESTS, Frame, FrameReader, Kind
from volact.vm.messages import Activate, GetIssuer, read_answer, read_request

BODIES = st.binary(max_size=300).map(lambda data: data.replace(MARK[:1], b""))
FRAMES = st.builds(Frame, st.sampled_from(sorted(REQUESTS)), BODIES)
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([MARK, MARK[:1], MARK[:3], HEADER.pack(MARK, 10, 1), HEADER.pack(MARK, 0, 2), b"\xff" * 9]),
    FRAMES.map(Frame.to_bytes),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.lists(HOSTILE, max_size=8), st.lists(st.integers(0, 50), max_size=10))
def test_the_pieces_in_which_bytes_come_make_no_difference(parts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(parts)
    whole, slow = FrameReader(REQUESTS, MOST_REQUEST), FrameReader(REQUESTS, MOST_REQUEST)
    at_once = whole.receive(data)
    assert [frame for piece in cut(data, sizes) for frame in slow.receive(piece)] == at_once
    assert (slow.skipped, slow.waiting) == (whole.skipped, whole.waiting)


@given(st.lists(HOSTILE, max_size=6), FRAMES)
def test_after_any_bytes_a_good_frame_is_read_at_once(parts: list[bytes], frame: Frame) -> None:
    reader = FrameReader(REQUESTS, MOST_REQUEST)
    reader.receive(b"".join(parts))
    assert reader.receive(frame.to_bytes())[-1:] == [frame]


@given(st.lists(HOSTILE, max_size=8))
def test_every_byte_is_in_a_frame_or_skipped_or_waiting(parts: list[bytes]) -> None:
    data = b"".join(parts)
    reader = FrameReader(REQUESTS, MOST_REQUEST)
    frames = reader.receive(data)
    assert sum(len(frame.to_bytes()) for frame in frames) + reader.skipped + reader.waiting == len(data)


@given(st.sampled_from(sorted(Kind)), st.binary(max_size=400))
def test_a_body_is_a_message_or_malformed(kind: Kind, body: bytes) -> None:
    for read in (read_request, read_answer):
        try:
            message = read(Frame(kind, body))
        except MalformedError:
            continue
        assert len(message.id) == 16


IDS = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(
    st.one_of(
        st.builds(
            GetIssuer, IDS, st.text("abc:0", min_size=1, max_size=80), st.text("abc", min_size=1, max_size=63),
            st.integers(0, 65535), st.binary(min_size=16, max_size=16),
        ),
        st.builds(
            Activate, IDS, st.text("abc", min_size=1, max_size=64), st.binary(max_size=3000),
            st.text(max_size=100).filter(str.isprintable),
        ),
    )
)  # fmt: skip
def test_a_request_survives_the_stream(request: GetIssuer | Activate) -> None:
    (frame,) = FrameReader(REQUESTS, MOST_REQUEST).receive(request.to_frame().to_bytes())
    assert read_request(frame) == request


def test_answers_have_their_own_bound() -> None:
    long = Frame(Kind.ISSUER, b"x" * MOST_ANSWER)
    assert FrameReader(ANSWERS, MOST_ANSWER).receive(long.to_bytes()) == [long]
