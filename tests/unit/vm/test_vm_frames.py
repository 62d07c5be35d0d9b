# SPDX-License-Identifier: Apache-2.0
"""Frames on a stream without a beginning: what is whole is read, what is torn is skipped, nothing is waited for."""

import pytest

from volact.vm.frames import ANSWERS, HEADER, MARK, MOST_ANSWER, MOST_REQUEST, REQUESTS, Frame, FrameReader, Kind

FRAME = Frame(Kind.ACTIVATE, b'{"id":"00","sealed":"AAAA"}')
BYTES = FRAME.to_bytes()


def reader() -> FrameReader:
    return FrameReader(REQUESTS, MOST_REQUEST)


def test_a_frame_is_read_whole_and_byte_by_byte() -> None:
    assert reader().receive(BYTES) == [FRAME]
    slow = reader()
    assert [frame for byte in BYTES for frame in slow.receive(bytes([byte]))] == [FRAME]
    assert (slow.skipped, slow.waiting) == (0, 0)


def test_several_frames_in_one_piece_come_in_their_order() -> None:
    other = Frame(Kind.GET_ISSUER, b"{}")
    assert reader().receive(BYTES + other.to_bytes() + BYTES) == [FRAME, other, FRAME]


@pytest.mark.parametrize("cut", range(1, len(BYTES)))
def test_a_frame_that_was_torn_anywhere_never_swallows_the_next(cut: int) -> None:
    """Its sender was killed; the next program's frame follows at once, without a pause to tell them apart."""
    torn = reader()
    assert torn.receive(BYTES[:cut]) == []
    assert torn.receive(BYTES) == [FRAME]
    assert torn.skipped == cut


@pytest.mark.parametrize("cut", range(1, len(BYTES)))
def test_the_rest_of_a_frame_that_somebody_else_began_to_read_is_skipped(cut: int) -> None:
    assert reader().receive(BYTES[cut:] + BYTES) == [FRAME]


@pytest.mark.parametrize("length", [MOST_REQUEST + 1, 2**24, 2**32 - 1])
def test_a_frame_longer_than_allowed_is_skipped_without_being_stored(length: int) -> None:
    greedy = reader()
    assert greedy.receive(HEADER.pack(MARK, length, Kind.ACTIVATE) + b"x" * 1000) == []
    assert greedy.waiting < HEADER.size
    assert greedy.receive(BYTES) == [FRAME]


def test_the_longest_frame_is_read() -> None:
    longest = Frame(Kind.ACTIVATE, b"x" * MOST_REQUEST)
    assert reader().receive(longest.to_bytes()) == [longest]


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(REQUESTS)))
def test_a_kind_that_this_side_is_not_sent_is_skipped(kind: int) -> None:
    assert reader().receive(HEADER.pack(MARK, 2, kind) + b"{}" + BYTES) == [FRAME]


def test_no_kind_is_a_byte_of_the_mark() -> None:
    """So a header that is torn and followed by a mark never looks like a header."""
    assert not {int(kind) for kind in Kind} & set(MARK[:3])
    assert max(MOST_REQUEST, MOST_ANSWER) < 0x00FF0000


def test_both_sides_together_have_every_kind_once() -> None:
    assert set(Kind) == REQUESTS | ANSWERS
    assert not REQUESTS & ANSWERS


def test_noise_costs_no_memory() -> None:
    noisy = reader()
    for _ in range(100):
        assert noisy.receive(b"\x00noise" * 1000) == []
        assert noisy.waiting == 0
    assert noisy.skipped == 600_000
