# SPDX-License-Identifier: Apache-2.0
"""Requests, licences, descriptors, statuses and exchange files: read back as written, and nothing in them optional by
accident."""

from dataclasses import replace

import pytest

from volact.core.binding import machine_id
from volact.core.encoding import Fields, b64encode
from volact.core.errors import MalformedError
from volact.core.exchange import MAX_FILE, AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.issuer import MOST_REVOKED, IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.core.request import ActivationRequest
from volact.core.states import State

FINGERPRINT = Fingerprint({Trait.MAC: bytes(16)})
REQUEST = ActivationRequest(
    issuer="0" * 32,
    product="acme-cad",
    version=3,
    edition="client",
    channel=Channel.VOLUME,
    nonce=bytes(16),
    response_key=bytes(32),
    at=1_800_000_000,
    state=State.INITIAL_GRACE,
    fingerprint=FINGERPRINT,
    name="ws-0017",
    threshold=25,
)
LICENCE = Licence(
    issuer="0" * 32,
    machine=bytes(range(32)),
    product="acme-cad",
    edition="client",
    group=101,
    channel=Channel.VOLUME,
    key_id="f" * 32,
    nonce=bytes(16),
    issued_at=1_800_000_000,
    expires_at=1_815_552_000,
    fingerprint=FINGERPRINT,
    organisation="Contoso",
    count=25,
    activation_interval_minutes=120,
    renewal_interval_minutes=10080,
)
HOST_KEY_LICENCE = replace(
    LICENCE, channel=Channel.KMS_HOST, expires_at=None, count=None, certificates=("AAAA", "BBBB"), status="a.b.c"
)
DESCRIPTOR = IssuerDescriptor("0" * 32, "kms", "x25519", bytes(32), 1, 2, bytes(16), "a.b.c")
STATUS = RevocationStatus(7, 1_800_000_000, {"ab" * 32: 1_700_000_000})
MESSAGES = [REQUEST, LICENCE, HOST_KEY_LICENCE, DESCRIPTOR, replace(DESCRIPTOR, nonce=b""), STATUS]


def read(kind, claim):
    return kind.from_claim(Fields(claim, "message"))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was_written(message):
    assert read(type(message), message.to_claim()) == message


OPTIONAL = {"exp", "count", "activation_interval_minutes", "renewal_interval_minutes", "nonce"}


@pytest.mark.parametrize("message", [REQUEST, LICENCE, DESCRIPTOR, STATUS], ids=lambda message: type(message).__name__)
def test_a_message_without_a_member_is_malformed_unless_it_may_lack_it(message):
    claim = message.to_claim()
    for name in claim:
        lacks(type(message), {n: v for n, v in claim.items() if n != name}, optional=name == "exp" and "aud" in claim)
    for name in claim.get("volact", {}):
        inner = {n: v for n, v in claim["volact"].items() if n != name}
        is_optional = name in OPTIONAL - {"nonce"} or (name == "nonce" and message is DESCRIPTOR)
        lacks(type(message), claim | {"volact": inner}, optional=is_optional)


def lacks(kind, claim, *, optional):
    if optional:
        assert read(kind, claim)
        return
    with pytest.raises(MalformedError):
        read(kind, claim)


def test_a_status_without_revocations_and_one_with_the_most():
    assert read(RevocationStatus, RevocationStatus(1, 0).to_claim()).revoked == {}
    most = {f"{n:064x}": n for n in range(MOST_REVOKED)}
    assert read(RevocationStatus, RevocationStatus(1, 0, most).to_claim()).revoked == most


def test_the_fullest_status_fits_into_a_descriptor_and_that_into_a_definition():
    """Signed with real certificates: what a publisher can revoke, its hosts can staple and its products can ship."""
    from volact.testing import Site

    site = Site.make()
    site.publisher.status = RevocationStatus(2, site.clock(), {f"{n:064x}": 2**40 for n in range(MOST_REVOKED)})
    definition = site.publisher.definition("acme-cad", 2)
    from volact.sealing import answers, verify

    trusted = verify.verify_definition(site.publisher.sign_definition(definition), site.publisher.fingerprint)
    assert trusted.definition.issuer == definition.issuer
    host = site.kms_host()
    token = host.get_issuer("", "", 101, bytes(16))
    answers.verify_descriptor(
        token,
        site.publisher.trust,
        Channel.VOLUME,
        now=site.clock(),
        nonce=bytes(16),
        suites=("x25519",),
        status_max_age=1,
    )


def test_revocation_is_looked_up_by_the_key():
    assert STATUS.revoked_at("ab" * 32) == 1_700_000_000
    assert STATUS.revoked_at("cd" * 32) is None


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "zz" * 32, " " + "ab" * 31 + "a", "ab" * 33, "ａb" * 32])
def test_a_machine_id_has_one_spelling(text):
    with pytest.raises(MalformedError):
        machine_id(text)


def test_a_machine_id_is_32_bytes():
    assert machine_id("ab" * 32) == b"\xab" * 32


class TestExchangeFiles:
    request = RequestFile("sha256:" + "ab" * 32, "acme-cad", "0" * 32, b"sealed")
    answer = AnswerFile("0" * 32, b"sealed")

    def test_files_come_back_as_they_were_written(self):
        assert RequestFile.from_bytes(self.request.to_bytes()) == self.request
        assert AnswerFile.from_bytes(self.answer.to_bytes()) == self.answer
        assert self.answer.to_bytes().endswith(b"}\n")

    def test_one_kind_is_not_taken_for_the_other(self):
        with pytest.raises(MalformedError, match="another kind of file"):
            RequestFile.from_bytes(self.answer.to_bytes())
        with pytest.raises(MalformedError, match="another kind of file"):
            AnswerFile.from_bytes(self.request.to_bytes())

    def test_a_file_too_long_is_refused_whatever_it_is_filled_with(self):
        whole = self.answer.to_bytes()
        assert AnswerFile.from_bytes(whole + b" " * (MAX_FILE - len(whole)))
        for filling in (b" ", b"x"):
            with pytest.raises(MalformedError):
                AnswerFile.from_bytes(whole + b" " * (MAX_FILE + 1 - len(whole)) + filling)

    @pytest.mark.parametrize("change", [{"v": 2}, {"sealed": "=="}, {"issuer": ""}, {"format": 1}], ids=str)
    def test_a_file_with_a_wrong_member_is_malformed(self, change):
        from volact.core.encoding import dump_object, parse_object

        claim = parse_object(self.answer.to_bytes(), "file") | change
        with pytest.raises(MalformedError):
            AnswerFile.from_bytes(dump_object(claim))


def test_a_response_key_of_another_size_is_malformed():
    with pytest.raises(MalformedError):
        read(ActivationRequest, REQUEST.to_claim() | {"response_key": b64encode(bytes(31))})
