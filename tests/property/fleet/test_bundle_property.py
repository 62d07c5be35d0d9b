# SPDX-License-Identifier: Apache-2.0
"""Any bytes are a bundle, or malformed, or changed: nothing else comes out of the parser."""

import time
import zlib

from hypothesis import given
from hypothesis import strategies as st

from volact.core.encoding import b64encode, dump_object
from volact.core.errors import MalformedError
from volact.core.exchange import RequestFile
from volact.fleet.exchange import bundle
from volact.fleet.exchange.bundle import AnswerRow, Bundle, BundleChangedError, Kind, ProblemRow, RequestRow, TableRow
from volact.sealing import jws
from volact.sealing.keys import LocalKey

KEY = LocalKey.generate()
ID = bytes(range(16))
NOW = 1_800_000_000

texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=40)
refs = st.binary(min_size=16, max_size=16)
requests = st.builds(
    RequestRow, refs, st.builds(RequestFile, texts, texts, texts, st.binary(max_size=300)), st.none() | texts
)
answers = st.builds(AnswerRow, refs, texts, st.binary(max_size=300)) | st.builds(ProblemRow, refs, texts, texts)
tags = st.builds(lambda machine, tag: TableRow("tags", {"machine": machine, "tag": tag}), texts, texts)
SAMPLE = bundle.write(Kind.REQUESTS, [RequestRow(ID, RequestFile("r", "p", "i", b"s"))], KEY, ID, NOW)


def parsed(data: bytes) -> Bundle | None:
    try:
        return bundle.parse(data)
    except (MalformedError, BundleChangedError):
        return None


@given(st.lists(requests, max_size=5))
def test_requests_come_out_as_they_went_in(rows: list[RequestRow]) -> None:
    made = bundle.parse(bundle.write(Kind.REQUESTS, rows, KEY, ID, NOW))
    assert list(made.rows) == rows
    assert made.manifest.signer == bundle.fingerprint(KEY)


@given(st.lists(answers, max_size=5))
def test_answers_come_out_as_they_went_in(rows: list[AnswerRow | ProblemRow]) -> None:
    made = bundle.parse(bundle.write(Kind.ANSWERS, rows, KEY, ID, NOW, ID))
    assert list(made.rows) == rows
    assert made.manifest.reply_to == ID


@given(st.lists(tags, max_size=5))
def test_rows_of_tables_come_out_as_they_went_in(rows: list[TableRow]) -> None:
    assert list(bundle.parse(bundle.write(Kind.INVENTORY, rows, KEY, ID, NOW)).rows) == rows


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: bundle.MAGIC + data))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    assert parsed(data) is None


@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_wherever_it_is(place: int, by: int) -> None:
    assert parsed(SAMPLE[:place] + bytes([SAMPLE[place] ^ by]) + SAMPLE[place + 1 :]) is None


@given(st.integers(0, len(SAMPLE) - 1))
def test_a_bundle_that_breaks_off_is_noticed(length: int) -> None:
    assert parsed(SAMPLE[:length]) is None


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 10), st.sampled_from([str(kind) for kind in Kind]))
def test_whatever_a_signer_puts_into_the_rows_parses_or_is_malformed(
    plain: bytes, size: int, rows: int, kind: str
) -> None:
    parsed(_signed(zlib.compress(plain), size, rows, kind))


@given(
    st.dictionaries(
        st.sampled_from(["t", "ref", "issuer", "sealed", "root", "product", "machine", "tag", "code"]),
        st.sampled_from(["request", "answer", "tags", "keys", "secrets", "AAAA", "", 3, None, [], {}, b64encode(ID)]),
    ),
    st.sampled_from([str(kind) for kind in Kind]),
)
def test_a_signed_row_of_any_shape_parses_or_is_malformed(row: dict[str, object], kind: str) -> None:

    line = dump_object(row) + b"\n"
    parsed(_signed(zlib.compress(line), len(line), 1, kind))


def test_a_stream_that_would_unpack_to_more_than_it_says_is_stopped() -> None:
    assert parsed(_signed(zlib.compress(bytes(50_000_000)), 100, 1, "requests")) is None


def test_a_few_bytes_do_not_become_a_million_rows() -> None:
    line = dump_object(ProblemRow(ID, "c", "m").to_claim()) + b"\n"
    bomb = line * 1_000_000
    packed = zlib.compress(bomb, 9)
    began = time.process_time()
    assert parsed(_signed(packed, len(bomb), 1_000_000, "answers")) is None
    assert parsed(_signed(packed, len(bomb), 1, "answers")) is None
    assert time.process_time() - began < 1


def test_rows_of_another_kind_are_not_smuggled_in() -> None:
    row = TableRow("tags", {"machine": "m", "tag": "t"})
    assert parsed(bundle.write(Kind.REQUESTS, [row], KEY, ID, NOW)) is None


def _signed(body: bytes, size: int, rows: int, kind: str) -> bytes:
    import hashlib

    digest = b64encode(hashlib.sha256(body).digest())
    claims = {"v": 1, "kind": kind, "id": b64encode(ID), "iat": NOW, "rows": rows, "size": size, "sha256": digest}
    token = jws.sign(jws.header(bundle.TYP, jwk=jws.jwk_of(KEY.public_key)), claims, KEY)
    return bundle.MAGIC + token.encode() + b"\n" + body
