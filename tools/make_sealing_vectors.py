# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/{licence,verification,request,seal}.json, for other implementations of requests and licences.

ECDSA signatures and HPKE seals are randomised, so these files are made once and kept: without ``--renew`` this script
leaves files that exist as they are.  The private keys are derived from their names, are in the files, and protect
nothing.  Each vector that must fail names its error; tests/unit/sealing/test_vectors_sealing.py holds the code to it.

    python tools/make_sealing_vectors.py [--renew] [FOLDER]
"""

import argparse
import datetime
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from volact.core.definition import Edition, EditionKind, ProductDefinition, ProductGroup
from volact.core.encoding import b64encode, dump_object
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.marker import Hardware, Model, OemMarker, Sight, Sighting, device_hash
from volact.core.policy import DAY, HOUR, Policy
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.refusal import KeyBlockedError, Refusal, SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.sealing import certificates, envelope, jws, proof, verify
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.keys import LocalKey

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"
FILES = ("licence", "verification", "request", "seal")

NOW = 1_800_000_000
MADE = NOW - 100 * DAY  # when the certificates begin
YEAR = certificates.YEAR
CLIENTS, SERVERS = 101, 102
LEASE = 180 * DAY
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NONCE, OTHER_NONCE = bytes(range(16)), bytes(range(16, 32))
RESPONSE_KEY = bytes(range(32, 64))
FINGERPRINT = Fingerprint({Trait.SMBIOS_UUID: bytes(range(16)), Trait.DISK_SERIAL: bytes(range(16, 32))})

Vector = dict[str, Any]


def key(name: str) -> LocalKey:
    """A test key: SHA-256 of its name, as the private number."""
    number = int.from_bytes(hashlib.sha256(f"volact test key: {name}".encode()).digest()) % (P256_ORDER - 1) + 1
    return LocalKey(ec.derive_private_key(number, ec.SECP256R1()))


KEY_NAMES = ("root", "other root", "issuing", "other issuing", "machine", "other machine", "stranger", *Role)
KEYS = {str(name): key(str(name)) for name in KEY_NAMES}
SEALING = envelope.OpeningKey.of(envelope.X25519, (x25519.X25519PrivateKey.from_private_bytes(bytes(range(1, 33))),))
HYBRID = envelope.OpeningKey.of(
    envelope.HYBRID,
    (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(range(64))),
        x25519.X25519PrivateKey.from_private_bytes(bytes(range(33, 65))),
    ),
)
MACHINE_JWK = jws.jwk_of(KEYS["machine"].public_key)
MACHINE = jws.thumbprint(MACHINE_JWK)


# --- certificates ---------------------------------------------------------------------------------------------------


def _serial(label: str) -> int:
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:15]) + 1


def _authority(name: str, publisher: str) -> tuple[x509.Certificate, x509.Certificate, Certified]:
    """Root, issuing CA and what the issuing CA signs with."""
    prefix = "other " if name else ""
    root_key, issuing_key = KEYS[f"{prefix}root"], KEYS[f"{prefix}issuing"]
    root = certificates.make_root(root_key.private, publisher, MADE, _serial(f"{prefix}root"))
    signer = Certified(root, root_key.private)
    issuing = certificates.make_issuing(signer, issuing_key.public_key, publisher, MADE, _serial(f"{prefix}issuing"))
    return root, issuing, Certified(issuing, issuing_key.private)


ROOT, ISSUING, CA = _authority("", "Acme Software")
OTHER_ROOT, OTHER_ISSUING, OTHER_CA = _authority("other", "Other Software")


def grant(role: Role, groups: Iterable[int] = (CLIENTS, SERVERS)) -> Grant:
    own = role in (Role.KMS_HOST, Role.VM_HOST, Role.OEM)
    signer = certificates.key_thumbprint(KEYS[role].public_key)
    return Grant("Contoso" if own else "Acme Software", frozenset(groups if own else ()), signer)


def end(role: Role, ca: Certified = CA, of: Grant | None = None, lifetime: int = YEAR) -> x509.Certificate:
    of = of or grant(role)
    return certificates.make_end(
        ca, KEYS[role].public_key, role, of, of.organisation, MADE, _serial(f"{role}{of}{lifetime}"), lifetime
    )


def odd_end(
    *,
    usages: Iterable[x509.ObjectIdentifier] = (certificates.ROLE_OIDS[Role.KMS_HOST],),
    grant_der: bytes | None = b"",
    public_key: Any = None,
    issuer: Certified = CA,
) -> x509.Certificate:
    """A KMS host's certificate with something about it that no CA of ours would write."""
    usages = list(usages)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key or KEYS[Role.KMS_HOST].public_key)
        .serial_number(_serial("odd"))
        .not_valid_before(_date(MADE))
        .not_valid_after(_date(MADE + YEAR))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNS, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    if grant_der is not None:
        value = grant_der or grant(Role.KMS_HOST).to_der()
        builder = builder.add_extension(x509.UnrecognizedExtension(certificates.GRANT_OID, value), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _date(second: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(second, datetime.UTC)


_SIGNS = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
LONG = (Role.PUBLISHER, Role.DEFINITION, Role.REVOCATION)
ENDS = {role: end(role, lifetime=10 * YEAR if role in LONG else YEAR) for role in Role}
CHAINS = {role: (ENDS[role], ISSUING) for role in Role}
HOST = CHAINS[Role.KMS_HOST]
HOST_KEY = KEYS[Role.KMS_HOST]


# --- tokens ---------------------------------------------------------------------------------------------------------


def sign(typ: str, claims: dict[str, Any], chain: Iterable[x509.Certificate], signer: LocalKey) -> str:
    x5c = tuple(certificates.der(certificate) for certificate in chain)
    return jws.sign(jws.header(typ, x5c=x5c), claims, signer)


def by(role: Role, typ: str, claims: dict[str, Any]) -> str:
    """A token signed by the genuine holder of a role; definitions bring their root."""
    chain = (*CHAINS[role], ROOT) if typ == verify.DEFINITION else CHAINS[role]
    return sign(typ, claims, chain, KEYS[role])


def raw(header: bytes, payload: bytes, signer: LocalKey = HOST_KEY) -> str:
    """A token of any two texts, truly signed."""
    signing_input = f"{b64encode(header)}.{b64encode(payload)}"
    return f"{signing_input}.{b64encode(signer.sign(signing_input.encode()))}"


def header_of(of: str, /, **changes: Any) -> bytes:
    """The host's header with members changed; ``None`` takes one away."""
    members: dict[str, Any] = {"alg": "ES256", "typ": of, "x5c": _x5c(HOST)} | changes
    return dump_object({name: value for name, value in members.items() if value is not None})


def _x5c(chain: Iterable[x509.Certificate]) -> list[str]:
    from base64 import b64encode as standard

    return [standard(certificates.der(certificate)).decode() for certificate in chain]


def licence(**changes: Any) -> Licence:
    return replace(
        Licence(
            issuer=SEALING.id,
            machine=MACHINE,
            product="acme-cad",
            edition="client",
            group=CLIENTS,
            channel=Channel.VOLUME,
            key_id="0123456789abcdef0123456789abcdef",
            nonce=NONCE,
            issued_at=NOW,
            expires_at=NOW + LEASE,
            fingerprint=FINGERPRINT,
            organisation="Contoso",
            count=25,
            activation_interval_minutes=120,
            renewal_interval_minutes=10080,
        ),
        **changes,
    )


def host_licence(**changes: Any) -> str:
    return by(Role.KMS_HOST, verify.LICENCE, licence(**changes).to_claim())


def host_claims(**changes: Any) -> str:
    """A host's licence with top-level claims replaced, or taken away by ``None``."""
    claims = {name: value for name, value in (licence().to_claim() | changes).items() if value is not None}
    return by(Role.KMS_HOST, verify.LICENCE, claims)


def host_inner(**changes: Any) -> str:
    inner = {n: v for n, v in (licence().to_claim()["volact"] | changes).items() if v is not None}
    return host_claims(volact=inner)


REQUEST = ActivationRequest(
    issuer=SEALING.id,
    product="acme-cad",
    version=3,
    edition="client",
    channel=Channel.VOLUME,
    nonce=NONCE,
    response_key=RESPONSE_KEY,
    at=NOW,
    state=State.INITIAL_GRACE,
    fingerprint=FINGERPRINT,
    name="ws-0017",
    threshold=25,
)


def status(epoch: int = 7, issued_at: int = NOW - DAY, revoked: dict[str, int] | None = None) -> str:
    return by(Role.REVOCATION, verify.STATUS, RevocationStatus(epoch, issued_at, revoked or {}).to_claim())


def thumbprint(role: Role) -> str:
    return certificates.key_thumbprint(KEYS[role].public_key).hex()


def refusal(**changes: Any) -> SignedRefusal:
    why = Refusal.of(KeyBlockedError, 3600, partial="33GJK")
    return replace(SignedRefusal(SEALING.id, NONCE, NOW, why), **changes)


# --- licence.json ---------------------------------------------------------------------------------------------------


def licence_file() -> Vector:
    return {
        "spec": "docs/spec/licence.md",
        "roots": {"acme": _b64(ROOT), "other": _b64(OTHER_ROOT)},
        "keys": _private_keys(),
        "request": REQUEST.to_claim(),
        "machine": MACHINE.hex(),
        "licences": [*_good_licences(), *_bad_licences(), *_bad_tokens(), *_bad_chains(), *_roles_and_channels()],
        "answers": [*_good_answers(), *_bad_answers()],
    }


def _good_licences() -> Iterator[Vector]:
    yield good("a KMS host's licence", token=host_licence())
    yield good("below the threshold it is a licence all the same", token=host_licence(count=1))
    perpetual = licence(channel=Channel.MAK, expires_at=None, count=None, key_id="f" * 32)
    yield good("a publisher's perpetual licence", token=by(Role.PUBLISHER, verify.LICENCE, perpetual.to_claim()))
    later = licence(issued_at=MADE + YEAR - 1, expires_at=MADE + YEAR)
    yield good(
        "in the last second of the host's certificate", token=by(Role.KMS_HOST, verify.LICENCE, later.to_claim())
    )
    token = by(Role.VM_HOST, verify.LICENCE, licence(channel=Channel.VM, count=None).to_claim())
    yield good("a VM host's licence", token=token)
    since = status(revoked={thumbprint(Role.KMS_HOST): NOW + 1})
    yield good("issued before its issuer was revoked", token=host_licence(), status=since, revoked_at=NOW + 1)
    since = status(revoked={thumbprint(Role.KMS_HOST): NOW})
    yield good(
        "issued when its issuer was revoked: told, and for the evaluation to judge",
        token=host_licence(),
        status=since,
        revoked_at=NOW,
    )


def _bad_licences() -> Iterator[Vector]:
    claims = licence().to_claim()
    yield bad("wrong key", "signature-invalid", token=sign(verify.LICENCE, claims, HOST, KEYS["stranger"]))
    token = host_licence()
    head, body, signature = token.split(".")
    more = b64encode(dump_object(licence(count=26).to_claim()))
    yield bad("contents changed", "signature-invalid", token=f"{head}.{more}.{signature}")
    refusal_head = by(Role.KMS_HOST, verify.REFUSAL, refusal().to_claim()).split(".")[0]
    yield bad("type changed to refusal", "token-type", token=f"{refusal_head}.{body}.{signature}")
    yield bad("signature of zeros", "signature-invalid", token=f"{head}.{body}.{b64encode(bytes(64))}")
    yield bad("a refusal in a licence's place", "token-type", token=by(Role.KMS_HOST, verify.REFUSAL, claims))
    yield bad("expired host certificate", "certificate-invalid", token=host_licence(issued_at=MADE + YEAR + 1))
    yield bad("certificate not yet valid", "certificate-invalid", token=host_licence(issued_at=MADE - 3601))
    only = end(Role.KMS_HOST, of=grant(Role.KMS_HOST, [SERVERS]))
    yield bad(
        "product group not certified",
        "group-not-certified",
        token=sign(verify.LICENCE, claims, (only, ISSUING), HOST_KEY),
    )
    none = end(Role.KMS_HOST, of=grant(Role.KMS_HOST, []))
    yield bad(
        "a host certificate that names no group grants none",
        "group-not-certified",
        token=sign(verify.LICENCE, claims, (none, ISSUING), HOST_KEY),
    )
    for name, changed in _WRONG_CLAIMS.items():
        yield bad(name, "malformed", token=host_claims(**changed))
    for name, changed in _WRONG_INNER.items():
        yield bad(name, "malformed", token=host_inner(**changed))


_WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "no time": {"iat": None},
    "a time beyond the calendar": {"iat": 2**53 - 1},
    "a time as text": {"iat": str(NOW)},
    "a time before 1970": {"iat": -1},
    "an end as true": {"exp": True},
    "no issuer": {"iss": None},
    "no machine": {"sub": None},
    "machine ID in upper case": {"sub": MACHINE.hex().upper()},
    "machine ID of 31 bytes": {"sub": MACHINE.hex()[:62]},
    "product with a control character": {"aud": "acme\u001bcad"},
    "two audiences": {"aud": ["acme-cad", "acme-cam"]},
    "no volact object": {"volact": None},
    "volact is a list": {"volact": []},
}
_WRONG_INNER: dict[str, dict[str, Any]] = {
    "a later format": {"v": 2},
    "no format": {"v": None},
    "channel of a later version": {"channel": "barter"},
    "no nonce": {"nonce": None},
    "nonce of 15 bytes": {"nonce": b64encode(NONCE[:15])},
    "nonce in standard base64": {"nonce": "+" * 22},
    "a negative count": {"count": -1},
    "count as text": {"count": "25"},
    "group beyond 16 bits": {"group": 65536},
    "fingerprint of 17 traits": {"fingerprint": {f"t{n}": b64encode(bytes(16)) for n in range(17)}},
}


def _bad_tokens() -> Iterator[Vector]:
    token, payload = host_licence(), dump_object(licence().to_claim())
    head, body, signature = token.split(".")
    typ = verify.LICENCE
    for name, text in {
        "nothing": "",
        "truncated after the header": head,
        "truncated in the header": head[: len(head) // 2],
        "truncated after the header's dot": f"{head}.",
        "truncated in the payload": f"{head}.{body[: len(body) // 2]}",
        "truncated before the signature": f"{head}.{body}",
        "empty signature": f"{head}.{body}.",
        "signature without its last byte": f"{head}.{body}.{b64encode(_bytes(signature)[:-1])}",
        "signature in DER": f"{head}.{body}.{b64encode(_der_signature(_bytes(signature)))}",
        "a fourth part": f"{token}.{signature}",
        "padding": f"{head}.{body}.{signature}==",
        "unused bits set": token[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[token[-1]],
        "a line end after it": token + "\n",
        "a space inside": f"{head}. {body}.{signature}",
        "a full-width dot": f"{head}\uff0e{body}.{signature}",
    }.items():
        yield bad(name, "malformed", token=text)
    for name, header in _bad_headers().items():
        yield bad(name, "malformed", token=raw(header, payload))
    yield bad("alg none, unsigned", "malformed", token=f"{b64encode(header_of(typ, alg='none'))}.{body}.")
    yield bad("HS256 under the public key", "malformed", token=_hs256(payload))
    for name, contents in {
        "payload is no JSON": b"volume",
        "payload is a list": b"[]",
        "payload is not UTF-8": payload[:-1] + b',"x":"\xff"}',
        "payload begins with a byte order mark": b"\xef\xbb\xbf" + payload,
        "duplicate member": payload[:-1] + b',"iat":1700000000}',
        "duplicate member, spelled differently": payload[:-1] + b',"\\u0069at":1700000000}',
        "a number with a fraction": payload[:-1] + b',"x":1.5}',
        "a number with an exponent": payload[:-1] + b',"x":1e3}',
        "not a number": payload[:-1] + b',"x":NaN}',
        "a number beyond 2^53": payload[:-1] + b',"x":9007199254740992}',
        "nested nine deep": payload[:-1] + b',"x":' + b"[" * 8 + b"]" * 8 + b"}",
        "nested without end": payload[:-1] + b',"x":' + b"[" * 2000,
        "something after it": payload + b"{}",
    }.items():
        yield bad(name, "malformed", token=raw(header_of(typ), contents))


def _bad_headers() -> dict[str, bytes]:
    typ = verify.LICENCE
    good_header = header_of(typ)
    return {
        "algorithm none": header_of(typ, alg="none"),
        "algorithm HS256": header_of(typ, alg="HS256"),
        "algorithm ES384": header_of(typ, alg="ES384"),
        "algorithm in lower case": header_of(typ, alg="es256"),
        "no algorithm": header_of(typ, alg=None),
        "no type": header_of(typ, typ=None),
        "type is a number": header_of(typ, typ=1),
        "extra header member kid": header_of(typ, kid="1"),
        "extra header member crit": header_of(typ, crit=["exp"]),
        "extra header member jku": header_of(typ, jku="https://example.test/keys"),
        "extra header member b64": header_of(typ, b64=False),
        "a machine's key beside the certificates": header_of(typ, jwk=MACHINE_JWK),
        "a machine's key for certificates": header_of(typ, x5c=None, jwk=MACHINE_JWK),
        "no certificates": header_of(typ, x5c=None),
        "an empty list of certificates": header_of(typ, x5c=[]),
        "five certificates": header_of(typ, x5c=_x5c([*HOST, ISSUING, ISSUING, ROOT])),
        "certificates in base64url": header_of(typ, x5c=[t.replace("+", "-").replace("/", "_") for t in _x5c(HOST)]),
        "a certificate that is none": header_of(typ, x5c=["AAAA", *_x5c([ISSUING])]),
        "a certificate cut short": header_of(typ, x5c=[_x5c(HOST)[0][:400], *_x5c([ISSUING])]),
        "duplicate header member": good_header[:-1] + b',"alg":"none"}',
        "header is a list": b"[]",
    }


def _bad_chains() -> Iterator[Vector]:
    claims = licence().to_claim()

    def signed(*chain: x509.Certificate, signer: LocalKey = HOST_KEY) -> str:
        return sign(verify.LICENCE, claims, chain, signer)

    foreign = certificates.make_end(
        OTHER_CA,
        HOST_KEY.public_key,
        Role.KMS_HOST,
        grant(Role.KMS_HOST),
        "Contoso",
        MADE,
        _serial("foreign"),
    )
    yield bad("chain to another root", "issuer-untrusted", token=signed(foreign, OTHER_ISSUING))
    yield bad(
        "chain to another root, which it brings", "issuer-untrusted", token=signed(foreign, OTHER_ISSUING, OTHER_ROOT)
    )
    yield bad("the right licence under another root", "issuer-untrusted", token=signed(*HOST), root="other")
    yield bad("chain without issuing CA", "issuer-untrusted", token=signed(HOST[0]))
    yield bad("another publisher's leaf before our issuing CA", "certificate-invalid", token=signed(foreign, ISSUING))
    yield bad("a self-made leaf before our issuing CA", "certificate-invalid", token=signed(_impostor(), ISSUING))
    yield bad("CA certificate as leaf", "certificate-invalid", token=signed(ISSUING, ROOT, signer=KEYS["issuing"]))
    below = odd_end(public_key=KEYS["stranger"].public_key, issuer=Certified(HOST[0], HOST_KEY.private))
    yield bad(
        "a host's certificate as CA",
        "certificate-invalid",
        token=signed(below, *HOST, signer=KEYS["stranger"]),
    )
    oids = certificates.ROLE_OIDS
    for name, code, leaf in (
        ("EKU of two roles", "malformed", odd_end(usages=[oids[Role.KMS_HOST], oids[Role.PUBLISHER]])),
        ("EKU of a TLS server", "malformed", odd_end(usages=[ExtendedKeyUsageOID.SERVER_AUTH])),
        ("EKU missing", "certificate-invalid", odd_end(usages=[])),
        ("no grant extension", "malformed", odd_end(grant_der=None)),
        ("grant extension that is no grant", "malformed", odd_end(grant_der=b"\x30\x00")),
        ("grant of a later version", "malformed", odd_end(grant_der=_grant_der(version=2))),
        ("grant of group 65536", "malformed", odd_end(grant_der=_grant_der(group=65536))),
    ):
        yield bad(name, code, token=signed(leaf, ISSUING))
    p384 = ec.derive_private_key(2**300, ec.SECP384R1())
    yield bad("certificate of a P-384 key", "malformed", token=signed(odd_end(public_key=p384.public_key()), ISSUING))


def _impostor() -> x509.Certificate:
    """Everything as in the host's certificate, and signed with a key of the impostor's own."""
    return odd_end(issuer=Certified(ISSUING, KEYS["stranger"].private))


def _roles_and_channels() -> Iterator[Vector]:
    for role in Role:
        for channel in Channel:
            leased = channel in (Channel.VOLUME, Channel.VM)
            changes = {} if leased else {"expires_at": None, "count": None}
            token = by(role, verify.LICENCE, licence(channel=channel, **changes).to_claim())
            name = f"{role} licenses channel {channel}"
            if channel in verify.MAY_LICENSE[role]:
                yield good(name, token=token)
            else:
                yield bad(name, "role-not-allowed", token=token)


def _good_answers() -> Iterator[Vector]:
    yield good("the licence asked for", token=host_licence(), **_ASKED)
    yield good("a count below the threshold", token=host_licence(count=3), **_ASKED)
    yield good("a lease as long as the policy's", token=host_licence(), **_ASKED, longest_lease=LEASE)
    for role in (Role.KMS_HOST, Role.PUBLISHER, Role.VM_HOST):
        yield good(f"a refusal by a {role}", token=by(role, verify.REFUSAL, refusal().to_claim()), **_ASKED)
    far = refusal(issued_at=NOW + 9 * HOUR)
    yield good("a refusal from a distant clock", token=by(Role.KMS_HOST, verify.REFUSAL, far.to_claim()), **_ASKED)
    since = status(revoked={thumbprint(Role.KMS_HOST): NOW + 1})
    yield good(
        "a refusal signed before the issuer was revoked",
        token=by(Role.KMS_HOST, verify.REFUSAL, refusal().to_claim()),
        **_ASKED,
        status=since,
    )


_ASKED: dict[str, Any] = {"group": CLIENTS, "tolerance": 4 * HOUR}


def _bad_answers() -> Iterator[Vector]:
    revoked = status(revoked={thumbprint(Role.KMS_HOST): NOW - 10 * DAY})
    later = status(revoked={thumbprint(Role.KMS_HOST): NOW + 1})
    mak = licence(channel=Channel.MAK, count=None)
    leased = {"longest_lease": LEASE}
    old = {"status": status(issued_at=NOW - 31 * DAY), "status_max_age": 30 * DAY}
    for name, code, token, more in (
        ("other machine", "machine-mismatch", host_licence(machine=bytes(32)), {}),
        ("other nonce", "nonce-mismatch", host_licence(nonce=OTHER_NONCE), {}),
        ("other issuer", "nonce-mismatch", host_licence(issuer=HYBRID.id), {}),
        ("other product", "licence-mismatch", host_licence(product="acme-cam"), {}),
        ("other edition", "licence-mismatch", host_licence(edition="server"), {}),
        ("other product group", "licence-mismatch", host_licence(group=SERVERS), {}),
        ("other channel", "licence-mismatch", by(Role.PUBLISHER, verify.LICENCE, mak.to_claim()), {}),
        ("stale answer", "answer-stale", host_licence(issued_at=NOW - 4 * HOUR - 1), {}),
        ("answer from the future", "answer-stale", host_licence(issued_at=NOW + 4 * HOUR + 1), {}),
        (
            "lease longer than policy",
            "lease-too-long",
            host_licence(expires_at=NOW + LEASE + 1),
            leased,
        ),
        (
            "perpetual where policy has leases",
            "lease-too-long",
            host_licence(expires_at=None),
            leased,
        ),
        ("revoked issuer", "issuer-key-revoked", host_licence(), {"status": revoked}),
        ("issuer revoked from a later date on", "issuer-key-revoked", host_licence(), {"status": later}),
        (
            "status too old at the licence's time",
            "status-expired",
            host_licence(),
            old,
        ),
        ("refusal with other nonce", "nonce-mismatch", _refused(nonce=OTHER_NONCE), {}),
        ("refusal of another issuer", "nonce-mismatch", _refused(issuer=HYBRID.id), {}),
        ("refusal by a revoked issuer", "issuer-key-revoked", _refused(), {"status": revoked}),
        ("refusal whose field is markup for terminals", "malformed", _refused_with(x="\u001b[2J"), {}),
        ("refusal with 17 fields", "malformed", _refused_with(**{f"f{n}": n for n in range(17)}), {}),
        ("refusal whose field is a list", "malformed", _refused_with(x=[]), {}),
        ("a descriptor for an answer", "token-type", by(Role.KMS_HOST, verify.DESCRIPTOR, descriptor().to_claim()), {}),
    ):
        yield bad(name, code, token=token, **_ASKED | more)


def _refused(**changes: Any) -> str:
    return by(Role.KMS_HOST, verify.REFUSAL, refusal(**changes).to_claim())


def _refused_with(**fields: Any) -> str:
    return _refused(refusal=Refusal("key-blocked", fields))


# --- verification.json ----------------------------------------------------------------------------------------------


def verification_file() -> Vector:
    return {
        "spec": "docs/spec/verification.md",
        "roots": {"acme": _b64(ROOT), "other": _b64(OTHER_ROOT)},
        "keys": _private_keys(),
        "types": list(_roles_and_types()),
        "definitions": list(_definitions()),
        "statuses": list(_statuses()),
        "descriptors": list(_descriptors()),
        "grants": list(_grants()),
        "readings": list(_readings()),
        "markers": list(_markers()),
        "sightings": list(_sightings()),
    }


def descriptor(**changes: Any) -> IssuerDescriptor:
    return replace(
        IssuerDescriptor(
            id=SEALING.id,
            name="kms.contoso.test",
            suite=envelope.X25519,
            public_key=SEALING.public,
            issued_at=NOW,
            expires_at=NOW + DAY,
            nonce=NONCE,
            status=STATUS,
        ),
        **changes,
    )


STATUS = status()


def definition(**changes: Any) -> ProductDefinition:
    generic = ProductKey.new(Channel.VOLUME, publisher_tag(certificates.fingerprint(ROOT)), CLIENTS, bytes(7))
    own = descriptor(nonce=b"", name="Acme Software", expires_at=MADE + 10 * YEAR)
    return replace(
        ProductDefinition(
            product="acme-cad",
            name="Acme CAD",
            version=3,
            publisher="Acme Software",
            root=certificates.fingerprint(ROOT),
            url="https://activation.acme.example",
            issuer=by(Role.PUBLISHER, verify.DESCRIPTOR, own.to_claim()),
            groups=(ProductGroup(CLIENTS, "clients", SERVERS), ProductGroup(SERVERS, "servers")),
            editions=(Edition("client", "Acme CAD", CLIENTS, EditionKind.CLIENT, Policy(), {Channel.VOLUME: generic}),),
            issued_at=NOW,
        ),
        **changes,
    )


TYPES = sorted({typ for signed in verify.MAY_SIGN.values() for typ in signed})


def _claims_of(typ: str) -> dict[str, Any]:
    """Claims of the types that are specified here; of the others just what the verifier itself reads."""
    known: dict[str, dict[str, Any]] = {
        verify.LICENCE: licence().to_claim(),
        verify.REFUSAL: refusal().to_claim(),
        verify.DESCRIPTOR: descriptor().to_claim(),
        verify.STATUS: RevocationStatus(7, NOW).to_claim(),
        verify.DEFINITION: {"iat": NOW, **definition().to_claim()},
    }
    return known.get(typ, {"iat": NOW})


def _roles_and_types() -> Iterator[Vector]:
    for role in Role:
        for typ in TYPES:
            token, name = by(role, typ, _claims_of(typ)), f"{role} signs {typ}"
            if typ in verify.MAY_SIGN[role]:
                yield good(name, token=token, typ=typ)
            else:
                yield bad(name, "role-not-allowed", token=token, typ=typ)
    token = sign(proof.REQUEST, REQUEST.to_claim(), HOST, HOST_KEY)
    yield bad("a request signed by a host", "role-not-allowed", token=token, typ=proof.REQUEST)


def _defined(role: Role = Role.DEFINITION, **changes: Any) -> str:
    one = definition(**changes)
    return by(role, verify.DEFINITION, {"iat": one.issued_at, **one.to_claim()})


def _definitions() -> Iterator[Vector]:
    fingerprint = certificates.fingerprint(ROOT)
    asked: dict[str, Any] = {"root": fingerprint, "product": "acme-cad", "min_version": 3}
    other = certificates.fingerprint(OTHER_ROOT)
    yield good("the definition", token=_defined(), **asked)
    yield good("newer than demanded", token=_defined(version=4), **asked)
    yield bad("old definition", "definition-too-old", token=_defined(version=2), **asked)
    yield bad("definition of another product", "definition-other-product", token=_defined(product="acme-cam"), **asked)
    yield bad("another root than the product's", "issuer-untrusted", token=_defined(), **asked | {"root": other})
    yield bad("a definition that names another root", "issuer-untrusted", token=_defined(root=other), **asked)
    short = sign(
        verify.DEFINITION, {"iat": NOW, **definition().to_claim()}, CHAINS[Role.DEFINITION], KEYS["definition"]
    )
    yield bad("a definition that does not bring its root", "issuer-untrusted", token=short, **asked)
    forged = sign(
        verify.DEFINITION,
        {"iat": NOW, **definition().to_claim()},
        (OTHER_ISSUING, ROOT),
        KEYS["other issuing"],
    )
    yield bad("the right root behind another chain", "certificate-invalid", token=forged, **asked)
    yield bad("signed by a KMS host", "role-not-allowed", token=_defined(Role.KMS_HOST), **asked)
    claims = {"iat": NOW, **definition().to_claim()}
    changes: dict[str, dict[str, Any]] = {
        "no edition": {"editions": []},
        "an edition of a group that is not defined": {"groups": []},
        "a group under itself": {"groups": [{"number": CLIENTS, "name": "clients", "parent": CLIENTS}]},
        "two groups of one number": {"groups": [{"number": CLIENTS, "name": "a"}, {"number": CLIENTS, "name": "b"}]},
        "a product name in upper case": {"product": "Acme"},
        "a policy without a figure": {"editions": [_edition_without("lease_days")]},
    }
    for name, changed in changes.items():
        yield bad(name, "malformed", token=by(Role.DEFINITION, verify.DEFINITION, claims | changed), **asked)


def _edition_without(figure: str) -> dict[str, Any]:
    edition: dict[str, Any] = definition().to_claim()["editions"][0]
    del edition["policy"][figure]
    return edition


def _statuses() -> Iterator[Vector]:
    yield good("the first status", token=status(1))
    yield good("the epoch seen before", token=status(7), seen=7)
    yield good("a later epoch", token=status(8, revoked={thumbprint(Role.KMS_HOST): NOW}), seen=7)
    yield bad("old revocation epoch", "status-outdated", token=status(6), seen=7)
    for role in (Role.PUBLISHER, Role.KMS_HOST):
        token = by(role, verify.STATUS, RevocationStatus(9, NOW).to_claim())
        yield bad(f"a status signed by a {role}", "role-not-allowed", token=token, seen=7)
    for name, revoked in {
        "a thumbprint in upper case": {"AB" * 32: NOW},
        "a date as text": {"ab" * 32: str(NOW)},
        "501 revocations": {f"{n:064x}": NOW for n in range(501)},
    }.items():
        yield bad(name, "malformed", token=status(revoked=revoked))  # type: ignore[arg-type]
    yield bad("epoch 0", "malformed", token=status(0))
    yield bad("a status for another root", "issuer-untrusted", token=status(), root="other")


_DESCRIBED: dict[str, Any] = {
    "channel": "volume",
    "now": NOW,
    "nonce": NONCE.hex(),
    "suites": [envelope.X25519, envelope.HYBRID],
    "status_max_age": 365 * DAY,
}


def _descriptors() -> Iterator[Vector]:
    stored = _DESCRIBED | {"nonce": ""}
    yield good("made for our nonce", token=_described(), **_DESCRIBED)
    yield good("stored, and not over", token=_described(nonce=b""), **stored)
    hybrid = descriptor(id=HYBRID.id, suite=envelope.HYBRID, public_key=HYBRID.public)
    yield good("the hybrid suite", token=by(Role.KMS_HOST, verify.DESCRIPTOR, hybrid.to_claim()), **_DESCRIBED)
    yield good("fresh, whatever our clock says", token=_described(), **_DESCRIBED | {"now": NOW + 9 * YEAR})
    publisher = by(Role.PUBLISHER, verify.DESCRIPTOR, descriptor().to_claim())
    yield good("the publisher, for host keys", token=publisher, **_DESCRIBED | {"channel": "kms-host"})
    old = status(issued_at=NOW - 30 * DAY - 1)
    revoked = status(8, revoked={thumbprint(Role.KMS_HOST): NOW + DAY})
    foreign = certificates.make_end(
        OTHER_CA, KEYS[Role.REVOCATION].public_key, Role.REVOCATION, grant(Role.REVOCATION), "Other", MADE, _serial("x")
    )
    elsewhere = sign(verify.STATUS, RevocationStatus(9, NOW).to_claim(), (foreign, OTHER_ISSUING), KEYS["revocation"])
    for name, code, token, more in (
        ("nonce replay", "nonce-mismatch", _described(nonce=OTHER_NONCE), {}),
        ("without a nonce where one was sent", "nonce-mismatch", _described(nonce=b""), {}),
        ("descriptor expired", "descriptor-expired", _described(), {"nonce": "", "now": NOW + DAY}),
        ("status missing", "status-missing", _described(status=""), {}),
        ("status too old", "status-expired", _described(status=old), {"status_max_age": 30 * DAY}),
        ("status too old by our clock", "status-expired", _described(), {"nonce": "", "now": NOW + 400 * DAY}),
        ("old revocation epoch", "status-outdated", _described(), {"seen": 8}),
        ("status of another publisher", "issuer-untrusted", _described(status=elsewhere), {}),
        ("status that is a descriptor", "token-type", _described(status=_described(status="")), {}),
        ("revoked issuer", "issuer-key-revoked", _described(status=revoked), {}),
        ("descriptor signed by another key than its grant names", "descriptor-signer", _mismatched(), {}),
        ("suite not allowed", "suite-not-allowed", _described(), {"suites": [envelope.HYBRID]}),
        ("suite of a later version", "suite-not-allowed", _described(suite="x448"), {}),
        ("a KMS host for MAKs", "role-not-allowed", _described(), {"channel": "mak"}),
        ("a publisher for volume clients", "role-not-allowed", publisher, {}),
        ("no sealing key", "malformed", _inner_described(public_key=None), {}),
        ("a later format", "malformed", _inner_described(v=2), {}),
    ):
        expires = {"expires_at": NOW + 500 * DAY} if "our clock" in name else {}
        yield bad(name, code, token=_described(**expires) if expires else token, **_DESCRIBED | more)


def _described(**changes: Any) -> str:
    return by(Role.KMS_HOST, verify.DESCRIPTOR, descriptor(**changes).to_claim())


def _inner_described(**changes: Any) -> str:
    claims = descriptor().to_claim()
    inner = {n: v for n, v in (claims["volact"] | changes).items() if v is not None}
    return by(Role.KMS_HOST, verify.DESCRIPTOR, claims | {"volact": inner})


def _mismatched() -> str:
    of = replace(grant(Role.KMS_HOST), descriptor_signer=certificates.key_thumbprint(KEYS["stranger"].public_key))
    return sign(verify.DESCRIPTOR, descriptor().to_claim(), (end(Role.KMS_HOST, of=of), ISSUING), HOST_KEY)


def _grants() -> Iterator[Vector]:
    for name, one in (("a host's grant", grant(Role.KMS_HOST)), ("the publisher's grant", grant(Role.PUBLISHER))):
        yield good(
            name,
            der=one.to_der().hex(),
            organisation=one.organisation,
            groups=sorted(one.groups),
            descriptor_signer=one.descriptor_signer.hex(),
        )
    whole = grant(Role.KMS_HOST).to_der()
    for name, der in {
        "empty": b"",
        "a byte short": whole[:-1],
        "a byte long": whole + b"\0",
        "a later version": _grant_der(version=2),
        "group 0": _grant_der(group=0),
        "group 65536": _grant_der(group=65536),
        "a signer of 31 bytes": replace(grant(Role.KMS_HOST), descriptor_signer=bytes(31)).to_der(),
        "an organisation with a control character": replace(grant(Role.KMS_HOST), organisation="a\x07").to_der(),
    }.items():
        yield bad(name, "malformed", der=der.hex())


def _readings() -> Iterator[Vector]:
    """What fails before contents are read; those are the activation object's, specified on its own page."""
    yield bad("another machine's note", "reading-other-machine", token=_noted("other machine"))
    yield bad("a note signed by another key", "signature-invalid", token=_noted("machine", "stranger"))


def marker(**changes: Any) -> OemMarker:
    model = Model("Contoso", "Book 14")
    return replace(OemMarker(NOW, frozenset({CLIENTS}), model, DEVICE, frozenset({"client"})), **changes)


DEVICE = device_hash(Trait.SMBIOS_UUID, "4C4C4544-0042-3510-8052-B4C04F4E4232")


def _marked(**changes: Any) -> str:
    """A marker's token with some of its inner claims changed, or left out where they are ``None``."""
    claim = marker().to_claim()
    inner = {name: value for name, value in {**claim["volact"], **changes}.items() if value is not None}
    return by(Role.OEM, verify.MARKER, {**claim, "volact": inner})


def _markers() -> Iterator[Vector]:
    good_ones = {
        "for one device of a model": marker(),
        "for a model, every edition": marker(device=None, editions=frozenset()),
        "for one device": marker(model=None),
    }
    for name, one in good_ones.items():
        yield good(name, token=by(Role.OEM, verify.MARKER, one.to_claim()))
    beyond = by(Role.OEM, verify.MARKER, marker(groups=frozenset({CLIENTS, 103})).to_claim())
    yield bad("a group its maker was not given", "group-not-certified", token=beyond)
    stranger = sign(verify.MARKER, marker().to_claim(), (end(Role.OEM, OTHER_CA), OTHER_ISSUING), KEYS[Role.OEM])
    yield bad("of another publisher's maker", "issuer-untrusted", token=stranger)
    wrong: dict[str, dict[str, Any]] = {
        "bound to nothing": {"model": None, "device": None},
        "no groups": {"groups": []},
        "groups out of order": {"groups": [SERVERS, CLIENTS]},
        "group 65536": {"groups": [65536]},
        "a device of 31 bytes": {"device": b64encode(bytes(31))},
        "a model without a product name": {"model": {"manufacturer": "Contoso"}},
        "a later version": {"v": 2},
    }
    for name, changes in wrong.items():
        yield bad(name, "malformed", token=_marked(**changes))


def _sightings() -> Iterator[Vector]:
    hardware = Hardware.of("Contoso", "Book 14", "4C4C4544-0042-3510-8052-B4C04F4E4232", "5B5RNB2")
    token = by(Role.OEM, verify.MARKER, marker().to_claim())
    seen = Sighting(NOW, Sight.PRESENT, token, hardware, licence().fingerprint)
    yield good("a marker that is there", token=_seen(seen.to_claim()))
    gone = replace(seen, sight=Sight.MISSING)
    yield good("one that was there", token=_seen(gone.to_claim()))
    yield bad("another machine's", "sighting-other-machine", token=_seen(seen.to_claim(), "other machine"))
    yield bad("signed by another key", "signature-invalid", token=_seen(seen.to_claim(), "machine", "stranger"))
    claim = seen.to_claim()
    unknown = {**claim, "volact": {**claim["volact"], "sight": "perhaps"}}
    yield bad("an unknown sight", "malformed", token=_seen(unknown))


def _seen(claim: dict[str, Any], machine: str = "machine", signer: str = "") -> str:
    jwk = jws.jwk_of(KEYS[machine].public_key)
    header = dump_object({"alg": "ES256", "typ": verify.SIGHTING, "jwk": jwk})
    return raw(header, dump_object(claim), KEYS[signer or machine])


def _noted(machine: str, signer: str = "") -> str:
    jwk = jws.jwk_of(KEYS[machine].public_key)
    header = dump_object({"alg": "ES256", "typ": verify.READING, "jwk": jwk})
    return raw(header, dump_object({"iat": NOW}), KEYS[signer or machine])


def _grant_der(version: int = 1, group: int = CLIENTS) -> bytes:
    """A grant written by hand: SEQUENCE { version, organisation, SEQUENCE { group }, OCTET STRING }."""
    inner = (
        _integer(version)
        + b"\x0c\x07Contoso"
        + _tlv(0x30, _integer(group))
        + _tlv(0x04, certificates.key_thumbprint(HOST_KEY.public_key))
    )
    return _tlv(0x30, inner)


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def _tlv(tag: int, value: bytes) -> bytes:
    return bytes([tag, len(value)]) + value


# --- request.json ---------------------------------------------------------------------------------------------------


def request_file() -> Vector:
    return {
        "spec": "docs/spec/request.md",
        "keys": {name: _private(KEYS[name]) for name in ("machine", "other machine")},
        "requests": [*_good_requests(), *_bad_requests()],
    }


def request(claims: dict[str, Any] | None = None, jwk: dict[str, Any] | None = None, signer: str = "machine") -> str:
    header = dump_object({"alg": "ES256", "typ": proof.REQUEST, "jwk": MACHINE_JWK if jwk is None else jwk})
    return raw(header, dump_object(claims or REQUEST.to_claim()), KEYS[signer])


def _good_requests() -> Iterator[Vector]:
    yield good("a volume client's request", token=request(), machine=MACHINE.hex())
    publisher = replace(REQUEST, channel=Channel.MAK, key="AEANN-WPM73-M3TEA-FNH9P-33GJK", threshold=0)
    yield good("a request to the publisher", token=request(publisher.to_claim()), machine=MACHINE.hex())
    upside_down = dict(reversed(MACHINE_JWK.items()))
    yield good("its key's members in another order", token=request(jwk=upside_down), machine=MACHINE.hex())


def _bad_requests() -> Iterator[Vector]:
    yield bad("request signed by another machine key", "request-unproven", token=request(signer="other machine"))
    head, _, signature = request().split(".")
    other = b64encode(dump_object(replace(REQUEST, name="ws-0018").to_claim()))
    yield bad("contents changed", "request-unproven", token=f"{head}.{other}.{signature}")
    x, y = MACHINE_JWK["x"], MACHINE_JWK["y"]
    for name, jwk in {
        "point not on curve": MACHINE_JWK | {"y": b64encode(bytes(31) + b"\1")},
        "the point of zeros": MACHINE_JWK | {"x": b64encode(bytes(32)), "y": b64encode(bytes(32))},
        "another curve": MACHINE_JWK | {"crv": "P-384"},
        "a symmetric key": {"kty": "oct", "k": x},
        "coordinate of 31 bytes": MACHINE_JWK | {"x": b64encode(bytes(31))},
        "coordinate in standard base64": MACHINE_JWK | {"x": "+" * 43},
        "an extra member of the key": MACHINE_JWK | {"kid": "1"},
        "the private key too": MACHINE_JWK | {"d": y},
        "no y": {name: value for name, value in MACHINE_JWK.items() if name != "y"},
        "an empty key": {},
    }.items():
        yield bad(name, "malformed", token=request(jwk=jwk))
    yield bad("certificates for a key", "malformed", token=sign(proof.REQUEST, REQUEST.to_claim(), HOST, HOST_KEY))
    licence_typ = dump_object({"alg": "ES256", "typ": verify.LICENCE, "jwk": MACHINE_JWK})
    token = raw(licence_typ, dump_object(REQUEST.to_claim()), KEYS["machine"])
    yield bad("a machine's own licence", "token-type", token=token)
    claims = REQUEST.to_claim()
    changes: dict[str, dict[str, Any]] = {
        "a later format": {"v": 2},
        "channel of a later version": {"channel": "barter"},
        "state of a later version": {"state": "asleep"},
        "response key of 16 bytes": {"response_key": b64encode(bytes(16))},
        "nonce of 17 bytes": {"nonce": b64encode(bytes(17))},
        "name with a control character": {"name": "ws\n0017"},
        "name of 254 characters": {"name": "a" * 254},
        "a threshold above a million": {"threshold": 1_000_001},
        "fingerprint is a list": {"fingerprint": []},
        "a trait's hash of 15 bytes": {"fingerprint": {"mac": b64encode(bytes(15))}},
        "version 0": {"version": 0},
        "no time": {"iat": None},
    }
    for name, changed in changes.items():
        members = {n: v for n, v in (claims | changed).items() if v is not None}
        yield bad(name, "malformed", token=request(members))


# --- seal.json ------------------------------------------------------------------------------------------------------


def seal_file() -> Vector:
    return {
        "spec": "docs/spec/seal.md",
        "keys": {
            envelope.X25519: {"private": bytes(range(1, 33)).hex(), **_sealing_key(SEALING)},
            envelope.HYBRID: {
                "mlkem768_seed": bytes(range(64)).hex(),
                "x25519_private": bytes(range(33, 65)).hex(),
                **_sealing_key(HYBRID),
            },
        },
        "requests": [*_good_seals(), *_bad_seals()],
        "public_keys": list(_public_keys()),
        "answers": list(_sealed_answers()),
    }


def _sealing_key(one: envelope.OpeningKey) -> Vector:
    return {"public": one.public.hex(), "id": one.id, "info": _info(one.suite, one.id).hex()}


def _info(suite: str, name: str) -> bytes:
    return b"volact request v1\0" + suite.encode() + b"\0" + name.encode()


PLAINTEXT = b"a compact JWS of typ volact-request+jwt"


def _good_seals() -> Iterator[Vector]:
    for one in (SEALING, HYBRID):
        sealed = envelope.seal_request(one.suite, one.public, PLAINTEXT)
        yield good(f"sealed with {one.suite}", suite=one.suite, sealed=sealed.hex(), plaintext=PLAINTEXT.hex())


def _bad_seals() -> Iterator[Vector]:
    for one, size in ((SEALING, 32), (HYBRID, 1120)):
        sealed = envelope.seal_request(one.suite, one.public, PLAINTEXT)
        stranger = envelope.OpeningKey.generate(one.suite)
        for name, data in {
            "sealed for another key": envelope.seal_request(one.suite, stranger.public, PLAINTEXT),
            "sealed for another key's ID": _sealed_with(one, _info(one.suite, "0" * 32)),
            "sealed for another suite's name": _sealed_with(one, _info("x448", one.id)),
            "sealed without info": _sealed_with(one, b""),
            "empty": b"",
            "truncated in the encapsulated key": sealed[: size - 1],
            "truncated after the encapsulated key": sealed[:size],
            "truncated in the tag": sealed[:-1],
            "a byte too many": sealed + b"\0",
            "first byte changed": bytes([sealed[0] ^ 1]) + sealed[1:],
            "last byte changed": sealed[:-1] + bytes([sealed[-1] ^ 1]),
            "an encapsulated key of zeros": bytes(size) + sealed[size:],
        }.items():
            yield bad(f"{one.suite}: {name}", "seal-broken", suite=one.suite, sealed=data.hex())
        other = SEALING if one is HYBRID else HYBRID
        crossed = envelope.seal_request(other.suite, other.public, PLAINTEXT)
        yield bad(f"{one.suite}: sealed with {other.suite}", "seal-broken", suite=one.suite, sealed=crossed.hex())
    yield bad("longer than 64 KiB", "malformed", suite=envelope.X25519, length=64 * 1024 + 1)


_SUITES = {
    envelope.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM),
    envelope.HYBRID: Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM),
}


def _sealed_with(one: envelope.OpeningKey, info: bytes) -> bytes:
    return _SUITES[one.suite].encrypt(PLAINTEXT, one._private.public_key(), info)


def _public_keys() -> Iterator[Vector]:
    for one in (SEALING, HYBRID):
        yield good(f"{one.suite}: a key", suite=one.suite, public=one.public.hex())
        for name, public in {
            "a byte short": one.public[:-1],
            "a byte long": one.public + b"\0",
            "empty": b"",
            "an X25519 point of zeros": one.public[:-32] + bytes(32),
            "an X25519 point of low order": one.public[:-32] + b"\1" + bytes(31),
        }.items():
            yield bad(f"{one.suite}: {name}", "malformed", suite=one.suite, public=public.hex())
    yield bad("a suite of a later version", "suite-unknown", suite="x448", public=bytes(56).hex())


def _sealed_answers() -> Iterator[Vector]:
    text = b"a compact JWS of typ volact-licence+jwt"
    sealed = envelope.seal_answer(RESPONSE_KEY, NONCE, text)
    asked = {"response_key": RESPONSE_KEY.hex(), "nonce": NONCE.hex()}
    yield good("the answer", sealed=sealed.hex(), plaintext=text.hex(), **asked)
    under_other = asked | {"response_key": bytes(32).hex()}
    yield bad("answer under other response key", "seal-broken", sealed=sealed.hex(), **under_other)
    yield bad("answer to another nonce", "seal-broken", sealed=sealed.hex(), **asked | {"nonce": OTHER_NONCE.hex()})
    for name, code, data in (
        ("empty", "malformed", b""),
        ("truncated in the nonce", "malformed", sealed[:11]),
        ("truncated to nonce and tag", "malformed", sealed[:28]),
        ("truncated in the tag", "seal-broken", sealed[:-1]),
        ("nonce changed", "seal-broken", bytes([sealed[0] ^ 1]) + sealed[1:]),
        ("contents changed", "seal-broken", sealed[:12] + bytes([sealed[12] ^ 1]) + sealed[13:]),
        ("tag changed", "seal-broken", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        yield bad(name, code, sealed=data.hex(), **asked)


# --- writing --------------------------------------------------------------------------------------------------------


def good(name: str, **inputs: Any) -> Vector:
    return {"name": name, **inputs}


def bad(name: str, error: str, **inputs: Any) -> Vector:
    return {"name": name, "error": error, **inputs}


def _private_keys() -> dict[str, str]:
    return {name: _private(one) for name, one in KEYS.items()}


def _private(one: LocalKey) -> str:
    return f"{one.private.private_numbers().private_value:064x}"


def _b64(certificate: x509.Certificate) -> str:
    return _x5c([certificate])[0]


def _bytes(text: str) -> bytes:
    from volact.core.encoding import b64decode

    return b64decode(text)


def _der_signature(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))


def _hs256(payload: bytes) -> str:
    """The classic confusion: an HMAC whose secret is the verifier's public key."""
    secret = certificates.pem(HOST[0])
    signing_input = f"{b64encode(header_of(verify.LICENCE, alg='HS256'))}.{b64encode(payload)}"
    mac = hmac.digest(secret, signing_input.encode(), "sha256")
    return f"{signing_input}.{b64encode(mac * 2)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="write the vectors of requests, licences, verification and seals")
    parser.add_argument("--renew", action="store_true", help="make files anew that exist")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    args = parser.parse_args()
    makers = (licence_file, verification_file, request_file, seal_file)
    for name, make in zip(FILES, makers, strict=True):
        path: Path = args.folder / f"{name}.json"
        if path.exists() and not args.renew:
            print(f"{path.name}: kept, since it would differ at each making; --renew makes it anew")
            continue
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
