# SPDX-License-Identifier: Apache-2.0
"""Every parser of untrusted bytes: they parse, or raise the one error that says so; nothing else ever comes out.

Fed with arbitrary bytes and texts, with arbitrary JSON, and with valid samples cut at each byte, with bits flipped,
with pieces exchanged and with members replaced.
"""

import base64
import json
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.client.folder.settings import HostMalformedError, parse_host_port, parse_resolver_address
from volact.client.platform import firmware
from volact.core import encoding
from volact.core.counter import Attested, Counter, CounterOffer, CounterProof, CounterReading
from volact.core.definition import ProductDefinition
from volact.core.encoding import Fields, b64decode, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError, TransportError, TrustError, VolactError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.marker import Hardware, Model, OemMarker, Sight, Sighting
from volact.core.policy import Policy
from volact.core.product_key import ProductKey
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.host.dns import parse_key_file
from volact.publisher.administration.oem import OemRequestError, acpi_table, read_request
from volact.sealing import answers, certificates, envelope, jws, keys, markers, proof, verify
from volact.sealing.certificates import Grant
from volact.sealing.pkcs11 import KeyReference, TokenPlace
from volact.sql.archive import Contents, Entry
from volact.wire.client import Server
from volact.wire.server import ACTIVATE, IssuerApplication

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
LICENCES, VERIFICATION, REQUESTS, SEALS = (
    json.loads((VECTORS / f"{name}.json").read_bytes()) for name in ("licence", "verification", "request", "seal")
)
TRUST = verify.Trust(certificates.load_der(base64.b64decode(LICENCES["roots"]["acme"])))
TYPS = (verify.LICENCE, verify.REFUSAL, verify.DESCRIPTOR, verify.DEFINITION, verify.STATUS, proof.REQUEST)
RESPONSE_KEY, NONCE = bytes(range(32, 64)), bytes(range(16))
OPENING = {suite: envelope.OpeningKey.generate(suite) for suite in (envelope.X25519, envelope.HYBRID)}
UNTRUSTED = (MalformedError, TrustError)


def sample(file, group, name):
    return next(vector for vector in file[group] if vector["name"] == name)


LICENCE = sample(LICENCES, "licences", "a KMS host's licence")["token"]
REFUSAL = sample(LICENCES, "answers", "a refusal by a kms-host")["token"]
DESCRIPTOR = sample(VERIFICATION, "descriptors", "made for our nonce")["token"]
STATUS = sample(VERIFICATION, "statuses", "a later epoch")["token"]
DEFINITION = sample(VERIFICATION, "definitions", "the definition")["token"]
REQUEST = sample(REQUESTS, "requests", "a volume client's request")["token"]
GRANT = bytes.fromhex(VERIFICATION["grants"][0]["der"])
CERTIFICATE = base64.b64decode(LICENCES["roots"]["acme"])
KEY_FILE = 'key "volact-dns" {\n\talgorithm hmac-sha256;\n\tsecret "c2VjcmV0IHNlY3JldCBzZWNyZXQ=";\n};\n'
PRODUCT_KEY = "AEANN-WPM73-M3TEA-FNH9P-33GJK"


def payload(token):
    return b64decode(token.split(".")[1])


def latin(parse):
    """A parser of text, fed with bytes: each byte one character."""
    return lambda data: parse(data.decode("latin-1"))


def of_object(read):
    """A reader of a parsed object, fed with JSON text."""
    return lambda data: read(Fields(parse_object(data, "object"), "object"))


@dataclass(frozen=True)
class Parser:
    parse: Callable[[bytes], Any]
    sample: bytes
    errors: Any = MalformedError


def verify_descriptor(token):
    from volact.core.product_key import Channel

    return answers.verify_descriptor(
        token, TRUST, Channel.VOLUME, now=0, nonce=NONCE, suites=("x25519",), status_max_age=10**9
    )


MARKER = OemMarker(1, frozenset({101}), Model("Contoso", "Book 14"), bytes(32), frozenset({"client"}))
WORD = Attested(b"k" * 90, b"i" * 14, b"s" * 150, bytes(64))
SIGHTING = Sighting(
    1, Sight.PRESENT, "a.b.c", Hardware.of("Contoso", "Book 14", "", "5B5RNB2"), Fingerprint({"mac": bytes(16)})
)
MARKED = sample(VERIFICATION, "markers", "for one device of a model")["token"]
SIGHTED = sample(VERIFICATION, "sightings", "a marker that is there")["token"]
SIGHTED_BY = bytes.fromhex(LICENCES["machine"])
STRINGS = b"\x0b\x05\x00\x11\x02Asset\0volact:a.b.c\0\0"
MAKERS_REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(x509.Name([]))
    .sign(keys.LocalKey.generate().private, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)

OBJECTS = {
    "request": Parser(of_object(ActivationRequest.from_claim), payload(REQUEST)),
    "licence": Parser(of_object(Licence.from_claim), payload(LICENCE)),
    "refusal": Parser(of_object(SignedRefusal.from_claim), payload(REFUSAL)),
    "descriptor": Parser(of_object(IssuerDescriptor.from_claim), payload(DESCRIPTOR)),
    "status": Parser(of_object(RevocationStatus.from_claim), payload(STATUS)),
    "definition": Parser(of_object(lambda claim: ProductDefinition.from_claim(claim, 0)), payload(DEFINITION)),
    "policy": Parser(of_object(Policy.from_claim), dump_object(Policy().to_claim())),
    "machine key": Parser(of_object(jws.key_of), dump_object(jws.jwk_of(keys.LocalKey.generate().public_key))),
    "OEM marker": Parser(of_object(OemMarker.from_claim), dump_object(MARKER.to_claim())),
    "counter": Parser(of_object(Counter.from_claim), dump_object(Counter(bytes(34), 7, b"c" * 328).to_claim())),
    "counter offer": Parser(of_object(CounterOffer.from_claim), dump_object(CounterOffer(b"x" * 900, WORD).to_claim())),
    "counter proof": Parser(
        of_object(CounterProof.from_claim), dump_object(CounterProof(1, bytes(32), WORD).to_claim())
    ),
    "counter reading": Parser(
        of_object(CounterReading.from_claim), dump_object(CounterReading(5, bytes(34), 7).to_claim())
    ),
    "sighting": Parser(of_object(Sighting.from_claim), dump_object(SIGHTING.to_claim())),
    "token reference": Parser(
        KeyReference.from_bytes, KeyReference(TokenPlace("/m.so", "acme", "/pin"), "Acme root", bytes(16)).to_bytes()
    ),
    "backup's list": Parser(
        Contents.from_bytes, Contents("host", 1, "1", (Entry("database.sqlite", 7, "0" * 64),)).to_bytes()
    ),
    "request file": Parser(RequestFile.from_bytes, RequestFile("sha256:00", "acme-cad", "i", b"sealed").to_bytes()),
    "answer file": Parser(AnswerFile.from_bytes, AnswerFile("i", b"sealed").to_bytes()),
}
OTHERS = {
    "JSON object": Parser(lambda data: parse_object(data, "object"), payload(LICENCE)),
    "base64url": Parser(latin(b64decode), b64encode(bytes(range(64))).encode()),
    "token": Parser(latin(lambda text: jws.parse(text, *TYPS)), LICENCE.encode(), UNTRUSTED),
    "verified licence": Parser(latin(lambda text: verify.verify_licence(text, TRUST)), LICENCE.encode(), UNTRUSTED),
    "verified status": Parser(latin(lambda text: verify.verify_status(text, TRUST)), STATUS.encode(), UNTRUSTED),
    "verified descriptor": Parser(latin(verify_descriptor), DESCRIPTOR.encode(), UNTRUSTED),
    "verified definition": Parser(
        latin(lambda text: verify.verify_definition(text, TRUST.fingerprint)), DEFINITION.encode(), UNTRUSTED
    ),
    "proven request": Parser(latin(proof.verify_request), REQUEST.encode(), UNTRUSTED),
    "verified marker": Parser(latin(lambda text: markers.verify_marker(text, TRUST)), MARKED.encode(), UNTRUSTED),
    "verified sighting": Parser(
        latin(lambda text: markers.verify_sighting(text, SIGHTED_BY)), SIGHTED.encode(), UNTRUSTED
    ),
    "ACPI table": Parser(firmware.parse_table, acpi_table("a.b.c", "CONTSO", "BOOK14")),
    "SMBIOS strings": Parser(firmware.parse_strings, STRINGS),
    "SMBIOS structures": Parser(firmware.parse_structures, b"\x01\x04\0\0Contoso\0\0" + STRINGS + b"\x7f\x04\0\0\0\0"),
    "maker's request": Parser(read_request, MAKERS_REQUEST, OemRequestError),
    "certificate": Parser(certificates.load_der, CERTIFICATE),
    "grant": Parser(Grant.from_der, GRANT),
    "sealed request": Parser(
        OPENING[envelope.X25519].open_request,
        envelope.seal_request(envelope.X25519, OPENING[envelope.X25519].public, b"text"),
        UNTRUSTED,
    ),
    "sealed request, hybrid": Parser(
        OPENING[envelope.HYBRID].open_request,
        envelope.seal_request(envelope.HYBRID, OPENING[envelope.HYBRID].public, b"text"),
        UNTRUSTED,
    ),
    "sealed answer": Parser(
        lambda data: envelope.open_answer(RESPONSE_KEY, NONCE, data),
        envelope.seal_answer(RESPONSE_KEY, NONCE, b"text"),
        UNTRUSTED,
    ),
    "sealing key": Parser(
        lambda data: envelope.seal_request(envelope.X25519, data, b"text"), OPENING[envelope.X25519].public
    ),
    "product key": Parser(latin(ProductKey.parse), PRODUCT_KEY.encode(), InputError),
    "product key in a file": Parser(latin(ProductKey.strict), PRODUCT_KEY.encode(), InputError),
    "host and port": Parser(latin(parse_host_port), b"[2001:db8::1]:1688", HostMalformedError),
    "resolver's address": Parser(latin(parse_resolver_address), b"192.0.2.1:53", ConfigError),
    "server's URL": Parser(latin(Server.from_url), b"https://activation.example.test:8443/", TransportError),
    "DNS key file": Parser(latin(lambda text: parse_key_file(text, "key file")), KEY_FILE.encode(), ConfigError),
    "key in PEM": Parser(
        lambda data: keys.load_private(data, None),
        keys.private_pem(keys.LocalKey.generate().private, None),
        ConfigError,
    ),
}
PARSERS = OBJECTS | OTHERS
each_parser = pytest.mark.parametrize("name", PARSERS)
each_object = pytest.mark.parametrize("name", OBJECTS)


def feed(name: str, data: bytes) -> None:
    parser = PARSERS[name]
    with suppress(parser.errors):
        parser.parse(data)


@each_parser
def test_the_sample_is_valid(name):
    PARSERS[name].parse(PARSERS[name].sample)


@each_parser
@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_raise_the_one_error(name, data):
    feed(name, data)


@each_parser
def test_a_sample_cut_at_any_byte_parses_or_raises_the_one_error(name):
    whole = PARSERS[name].sample
    step = 1 + len(whole) // 600  # long tokens: some hundred places, not each
    for length in range(0, len(whole), step):
        feed(name, whole[:length])
        feed(name, whole[length:])


@each_parser
@given(data=st.data())
def test_a_sample_with_bits_flipped_parses_or_raises_the_one_error(name, data):
    changed = bytearray(PARSERS[name].sample)
    places = st.tuples(st.integers(0, len(changed) - 1), st.integers(1, 255))
    for place, bits in data.draw(st.lists(places, min_size=1, max_size=4)):
        changed[place] ^= bits
    feed(name, bytes(changed))


@each_parser
@given(data=st.data())
def test_a_sample_with_a_piece_doubled_or_inserted_parses_or_raises_the_one_error(name, data):
    whole = PARSERS[name].sample
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    inserted = data.draw(st.one_of(st.just(whole[start:end]), st.binary(max_size=20)))
    feed(name, whole[:end] + inserted + whole[end:])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["x25519", "volume", "licensed", "A" * 22, "A" * 43, "\ud800", "\x1b[2J"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@each_object
@given(value=JSON)
def test_any_json_parses_or_raises_the_one_error(name, value):
    feed(name, json.dumps(value).encode())


@each_object
@given(data=st.data())
def test_a_sample_with_members_replaced_parses_or_raises_the_one_error(name, data):
    whole = json.loads(PARSERS[name].sample)
    for path in data.draw(st.lists(st.sampled_from(sorted(paths(whole))), min_size=1, max_size=2)):
        replace_at(whole, path, data.draw(JSON), remove=data.draw(st.booleans()))
    feed(name, json.dumps(whole).encode())


@each_object
def test_a_sample_without_any_one_of_its_members_parses_or_raises_the_one_error(name):
    for path in paths(json.loads(PARSERS[name].sample)):
        whole = json.loads(PARSERS[name].sample)
        replace_at(whole, path, None, remove=True)
        feed(name, json.dumps(whole).encode())


def paths(value, prefix=()):
    """The way to each member of a JSON value, as texts so that they sort."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield (*prefix, str(name))
        yield from paths(inner, (*prefix, str(name)))


def replace_at(value, path, new, *, remove):
    for name in path[:-1]:
        value = value.get(name) if isinstance(value, dict) else at(value, name)
    last = path[-1]
    if isinstance(value, dict):
        value[last] = new
        if remove:
            del value[last]
    elif at(value, last) is not None:
        value[int(last)] = new


def at(value, name):
    inside = isinstance(value, list) and name.isdigit() and int(name) < len(value)
    return value[int(name)] if inside else None


@given(value=JSON.filter(lambda value: isinstance(value, dict)))
def test_what_parses_is_what_was_written(value):
    text = json.dumps(value)
    try:
        parsed = parse_object(text.encode(), "object")
    except MalformedError:
        return
    assert parsed == value


@given(data=st.binary())
def test_base64url_has_one_spelling(data):
    text = b64encode(data)
    assert b64decode(text) == data
    assert text.encode() == base64.urlsafe_b64encode(data).rstrip(b"=")


@given(text=st.text(alphabet="ABCDwxyz0189-_+/= \n.", max_size=12))
def test_only_the_one_spelling_of_bytes_decodes(text):
    with suppress(MalformedError):
        assert b64encode(b64decode(text)) == text


@given(text=st.text(max_size=60))
def test_any_text_as_a_token_is_malformed(text):
    with pytest.raises(MalformedError):
        jws.parse(text, *TYPS)


@settings(max_examples=40)
@given(header=JSON, claims=JSON)
def test_a_truly_signed_token_of_any_contents_is_verified_or_refused(header, claims):
    """What an attacker can reach who has a key of his own: contents behind a signature that fits."""
    key = keys.LocalKey.generate()
    members = {"alg": "ES256", "typ": proof.REQUEST, "jwk": jws.jwk_of(key.public_key)}
    for head in ({**members, **header} if isinstance(header, dict) else header, members):
        signing_input = f"{b64encode(json.dumps(head).encode())}.{b64encode(json.dumps(claims).encode())}"
        with suppress(MalformedError, TrustError):
            proof.verify_request(f"{signing_input}.{b64encode(key.sign(signing_input.encode()))}")


# --- over the wire --------------------------------------------------------------------------------------------------


class OpeningService:
    """What each issuer does first with what it is sent."""

    async def descriptor(self, root, product, group, nonce):
        return DESCRIPTOR

    async def activate(self, issuer, sealed):
        text = OPENING[envelope.X25519].open_request(sealed).decode("ascii", "replace")
        proof.verify_request(text)
        return sealed


APPLICATION = IssuerApplication(OpeningService(), {})
SEALED = envelope.seal_request(envelope.X25519, OPENING[envelope.X25519].public, REQUEST.encode())


def post(body, content_type=b"application/proto", path=ACTIVATE, pieces=1):
    """One request through the application; the status of its answer."""
    import asyncio

    size = -(-len(body) // pieces) or 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": place < len(parts)} for place, part in enumerate(parts, 1)
    ]
    sent: list[Any] = []

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", content_type)],
    }
    asyncio.run(APPLICATION(scope, receive, send))
    return next(message["status"] for message in sent if message["type"] == "http.response.start")


def test_a_sealed_request_is_answered():
    from volact.wire.gen.volact.v1.activation_pb import ActivateRequest

    assert post(ActivateRequest(issuer="i", sealed=SEALED).to_binary(), pieces=3) == 200
    body = json.dumps({"issuer": "i", "sealed": base64.b64encode(SEALED).decode()}).encode()
    assert post(body, b"application/json") == 200


@pytest.mark.parametrize("method", ["Activate", "GetIssuer"])
@pytest.mark.parametrize("content_type", [b"application/proto", b"application/json"])
@given(body=st.binary(max_size=200), pieces=st.integers(1, 3))
def test_any_body_is_answered_and_is_nobodys_internal_error(method, content_type, body, pieces):
    status = post(body, content_type, f"/volact.v1.ActivationService/{method}", pieces)
    assert status in (200, 400)


@given(data=st.data())
def test_a_changed_activate_request_is_answered_and_is_nobodys_internal_error(data):
    from volact.wire.gen.volact.v1.activation_pb import ActivateRequest

    whole = bytearray(ActivateRequest(issuer="i", sealed=SEALED).to_binary())
    for place, bits in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)):
        whole[place] ^= bits
    assert post(bytes(whole[: data.draw(st.integers(0, len(whole)))])) in (200, 400)


class AnyServer(threading.Thread):
    """Reads a request and answers with ``answer``, whatever that is; then hangs up."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer = b""

    def run(self):
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with closing(connection), suppress(OSError):
                    self._read(connection)
                    connection.sendall(self.answer)

    def _read(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(65536)


@pytest.fixture(scope="module")
def any_server():
    server = AnyServer()
    server.start()
    yield server
    server.listener.close()


def ask(any_server, answer):
    any_server.answer = answer
    server = Server("127.0.0.1", any_server.port, timeout=5.0)
    for call in (lambda: server.get_issuer("sha256:", "p", 1, NONCE), lambda: server.activate("i", b"sealed")):
        error = network_error(call)
        # What a stranger sends must not steer the reader's terminal.
        assert error is None or str(error).isprintable()


def network_error(call):
    try:
        call()
    except TransportError as error:
        return error
    return None


def http_answer(body, head=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"):
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@given(answer=st.binary(max_size=200))
def test_a_client_takes_any_bytes_for_a_network_error_at_worst(any_server, answer):
    ask(any_server, answer)


@given(value=JSON, status=st.sampled_from([200, 204, 301, 400, 404, 500, 503, 999]))
def test_a_client_takes_any_json_for_a_network_error_at_worst(any_server, value, status):
    ask(any_server, http_answer(json.dumps(value).encode(), b"HTTP/1.1 %d Some\r\n" % status))


@given(body=st.dictionaries(st.sampled_from(["sealed", "descriptor", "message", "code"]), JSON))
def test_a_client_takes_any_member_for_a_network_error_at_worst(any_server, body):
    ask(any_server, http_answer(json.dumps(body).encode()))


@given(headers=st.lists(st.binary(max_size=40), max_size=4), size=st.sampled_from([b"0", b"-1", b"x", b"9" * 30, b"2"]))
def test_a_client_takes_any_headers_for_a_network_error_at_worst(any_server, headers, size):
    lines = [b"HTTP/1.1 500 No", b"volact-error: a\x1b[2Jb", *headers, b"Content-Length: " + size]
    ask(any_server, b"\r\n".join(lines) + b"\r\n\r\n{}")


@given(chunk=st.binary(max_size=40))
def test_a_client_takes_any_chunk_for_a_network_error_at_worst(any_server, chunk):
    ask(any_server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)


def test_each_error_of_a_parser_is_ours():
    for parser in PARSERS.values():
        kinds = parser.errors if isinstance(parser.errors, tuple) else (parser.errors,)
        assert all(issubclass(kind, VolactError) for kind in kinds)


def test_depth_is_bounded_where_it_says():
    deep = b'{"x":' * encoding.MAX_DEPTH + b"1" + b"}" * encoding.MAX_DEPTH
    assert parse_object(deep, "object")
    with pytest.raises(MalformedError):
        parse_object(b'{"x":' + deep + b"}", "object")
