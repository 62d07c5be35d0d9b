# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/returns.json, for other implementations of return proofs, inquiries and receipts.

ECDSA signatures are randomised, so the file is made once and kept: without ``--renew`` one that exists stays.  Keys and
certificates are those of make_sealing_vectors.py.  Each vector that must fail names its error;
tests/unit/sealing/test_vectors_returns.py holds the code to it.

    python tools/make_return_vectors.py [--renew] [FOLDER]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_sealing_vectors as base

from volact.core.licence import Checkpoint
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.refusal import ActivationReturnedError, Refusal, SignedRefusal
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.sealing import certificates, jws, returns
from volact.sealing.certificates import Role
from volact.sealing.sign import Issuer

ROOT = certificates.fingerprint(base.ROOT)
KEY = ProductKey.new(Channel.MAK, publisher_tag(ROOT), base.CLIENTS, bytes(range(7)))
PROOF = ReturnProof(ROOT, "acme-cad", KEY.key_id, base.NONCE, base.OTHER_NONCE, base.NOW)
INQUIRY = Inquiry("issuer-1", str(KEY), base.NONCE, base.RESPONSE_KEY, base.NOW)
RECEIPT = Receipt(
    "issuer-1", base.NONCE, base.NOW, KEY.key_id, 10, 3, blocked=False, credited=True, ledger=Checkpoint(7, "0" * 64)
)

Vector = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="make the file anew")
    parser.add_argument("folder", nargs="?", type=Path, default=base.FOLDER)
    options = parser.parse_args()
    path = options.folder / "returns.json"
    if path.exists() and not options.renew:
        return
    made = {
        "root": certificates.pem(base.ROOT).decode(),
        "keys": {name: key.private.private_numbers().private_value for name, key in _named().items()},
        "proofs": proofs(),
        "inquiries": inquiries(),
        "receipts": receipts(),
    }
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def proofs() -> list[Vector]:
    machine, stranger = base.KEYS["machine"], base.KEYS["stranger"]
    good = returns.sign_return(PROOF, machine)
    header, _, signature = good.split(".")
    other = returns.sign_return(replace(PROOF, product="acme-map"), machine).split(".")[1]
    claims = {**PROOF.to_claim(), "v": 2}
    foreign = jws.sign(jws.header(returns.RETURN, jwk=jws.jwk_of(machine.public_key)), PROOF.to_claim(), stranger)
    return [
        _good("carried", good, claims=PROOF.to_claim(), machine=base.MACHINE.hex()),
        _good(
            "online",
            returns.sign_return(replace(PROOF, response_key=base.RESPONSE_KEY), machine),
            claims=replace(PROOF, response_key=base.RESPONSE_KEY).to_claim(),
            machine=base.MACHINE.hex(),
        ),
        _bad("another product put in", f"{header}.{other}.{signature}", "request-unproven"),
        _bad("signed by another key than it brings", foreign, "request-unproven"),
        _bad("an inquiry in its place", returns.sign_inquiry(INQUIRY, machine), "token-type"),
        _bad("of a later format", _machine_token(claims), "malformed"),
        _bad("without the activation", _machine_token(_without(PROOF.to_claim(), "activation")), "malformed"),
        _bad("cut off", good[:-10], "malformed"),
    ]


def inquiries() -> list[Vector]:
    machine = base.KEYS["machine"]
    good = returns.sign_inquiry(INQUIRY, machine)
    return [
        _good("what is left", good, claims=INQUIRY.to_claim(), machine=base.MACHINE.hex()),
        _bad("a proof in its place", returns.sign_return(PROOF, machine), "token-type"),
    ]


def receipts() -> list[Vector]:
    """Each with the nonce that it is expected to answer."""
    publisher = _issuer(Role.PUBLISHER)
    refusal = SignedRefusal("issuer-1", base.NONCE, base.NOW, Refusal.of(ActivationReturnedError))
    other_ca = base.end(Role.PUBLISHER, base.OTHER_CA)
    stranger = Issuer(base.KEYS[Role.PUBLISHER], (other_ca, base.OTHER_ISSUING), base.OTHER_ROOT)
    good = returns.sign_receipt(RECEIPT, publisher)
    nonce = base.NONCE.hex()
    return [
        _good("credited", good, nonce=nonce, claims=RECEIPT.to_claim()),
        _good("a refusal", publisher.refusal(refusal), nonce=nonce, claims=refusal.to_claim()),
        _bad("another request's", good, "nonce-mismatch", nonce=base.OTHER_NONCE.hex()),
        _bad("a KMS host's", returns.sign_receipt(RECEIPT, _issuer(Role.KMS_HOST)), "role-not-allowed", nonce=nonce),
        _bad("another publisher's", returns.sign_receipt(RECEIPT, stranger), "issuer-untrusted", nonce=nonce),
        _bad(
            "its signature changed",
            good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
            "signature-invalid",
            nonce=nonce,
        ),
    ]


def _issuer(role: Role) -> Issuer:
    return Issuer(base.KEYS[role], (base.end(role), base.ISSUING), base.ROOT)


def _machine_token(claims: dict[str, Any]) -> str:
    machine = base.KEYS["machine"]
    return jws.sign(jws.header(returns.RETURN, jwk=jws.jwk_of(machine.public_key)), claims, machine)


def _without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def _named() -> dict[str, Any]:
    return {name: base.KEYS[name] for name in ("machine", "stranger")}


def _good(name: str, token: str, **more: Any) -> Vector:
    return {"name": name, "token": token, **more}


def _bad(name: str, token: str, error: str, **more: Any) -> Vector:
    return {"name": name, "token": token, "error": error, **more}


if __name__ == "__main__":
    main()
