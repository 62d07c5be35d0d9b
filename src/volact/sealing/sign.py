# SPDX-License-Identifier: Apache-2.0
"""Signing: what an issuer and a machine put their names to.  Decides nothing; rules live with the callers.

An :class:`Issuer` encodes its headers once, since the certificates in them do not change between answers.
"""

from collections.abc import Sequence

from cryptography import x509

from volact.core.activation_object import ActivationObject, Reading
from volact.core.definition import ProductDefinition
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.sealing import certificates, jws, proof, verify


class Issuer:
    """A signing key with its certificates, leaf first; the root is added where a reader has no other way to it."""

    def __init__(self, key: jws.SigningKey, chain: Sequence[x509.Certificate], root: x509.Certificate) -> None:
        self.key = key
        self.chain = tuple(chain)
        self.root = root
        self.grant = certificates.grant_of(chain[0])
        self.role = certificates.role_of(chain[0])
        # The second at which the certificate ends; no lease may outlast it.
        self.ends_at = int(chain[0].not_valid_after_utc.timestamp())
        x5c = tuple(certificates.der(certificate) for certificate in chain)
        self._licence = jws.header(verify.LICENCE, x5c=x5c)
        self._refusal = jws.header(verify.REFUSAL, x5c=x5c)
        self._descriptor = jws.header(verify.DESCRIPTOR, x5c=x5c)
        self._status = jws.header(verify.STATUS, x5c=x5c)
        self._object = jws.header(verify.OBJECT, x5c=x5c)
        # a definition says in its claims how the roots are joined
        self._definition = jws.header(verify.DEFINITION, x5c=(*x5c[:2], certificates.der(root)))

    @property
    def thumbprint(self) -> bytes:
        return certificates.key_thumbprint(self.key.public_key)

    def licence(self, licence: Licence) -> str:
        return jws.sign(self._licence, licence.to_claim(), self.key)

    def licence_input(self, payload: bytes) -> str:
        """What is to be signed of a licence whose claims are JSON already; :meth:`sign` goes on with it."""
        return jws.signing_input(self._licence, payload)

    def sign(self, signing_input: str) -> str:
        return jws.sign_input(signing_input, self.key)

    def refusal(self, refusal: SignedRefusal) -> str:
        return jws.sign(self._refusal, refusal.to_claim(), self.key)

    def descriptor(self, descriptor: IssuerDescriptor) -> str:
        return jws.sign(self._descriptor, descriptor.to_claim(), self.key)

    def definition(self, definition: ProductDefinition) -> str:
        return jws.sign(self._definition, {"iat": definition.issued_at, **definition.to_claim()}, self.key)

    def activation_object(self, made: ActivationObject) -> str:
        return jws.sign(self._object, made.to_claim(), self.key)

    def status(self, status: RevocationStatus) -> str:
        return jws.sign(self._status, status.to_claim(), self.key)


class MachineSigner:
    """A machine's own key: signs its requests, and gives it its ID."""

    def __init__(self, key: jws.SigningKey) -> None:
        self.key = key
        jwk = jws.jwk_of(key.public_key)
        self.machine = jws.thumbprint(jwk)
        self._header = jws.header(proof.REQUEST, jwk=jwk)
        self._reading = jws.header(verify.READING, jwk=jwk)

    def request(self, request: ActivationRequest) -> str:
        return jws.sign(self._header, request.to_claim(), self.key)

    def reading(self, reading: Reading) -> str:
        return jws.sign(self._reading, reading.to_claim(), self.key)
