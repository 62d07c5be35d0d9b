# SPDX-License-Identifier: Apache-2.0
"""All that a publisher's administrator does, in one place: products, and what the classes that it is made of do."""

import secrets

from volact.core.definition import ProductDefinition
from volact.core.licence import Checkpoint
from volact.core.returning import Receipt
from volact.publisher.administration.errors import NoCheckpointError
from volact.publisher.administration.keys import Keys
from volact.publisher.administration.revocation import Revocations
from volact.publisher.folder.descriptor import describe
from volact.publisher.folder.opening import PublisherKeys
from volact.publisher.rows.records import Signed
from volact.publisher.rules import catalogue
from volact.sealing import certificates, jws
from volact.sealing.verify import LICENCE, RECEIPT, verify, verify_definition, verify_licence


class Publisher(Keys, Revocations):
    """A publisher's folder and database, opened.  ``keys`` are handed to the acts that sign."""

    def add_product(self, toml: bytes, keys: PublisherKeys, now: int, actor: str) -> ProductDefinition:
        """A new product, or a new version of one."""
        file = catalogue.read_product(toml)
        newest = {signed.product: signed for signed in self.store.newest_of_all()}
        last = newest.get(file.product)
        catalogue.check_newer(file, last.version if last else None)
        catalogue.check_groups(file, (self.definition(signed) for signed in newest.values()))
        catalogue.check_suite(file, self.folder.suite)
        kept = self.store.generic_keys(file.product)
        generic = catalogue.complete_keys(file, kept, self.folder.fingerprint, secrets.token_bytes)
        definition = catalogue.define(file, generic, self._facts(keys, now), now)
        token = keys.definition.definition(definition)
        for root in self.folder.roots:  # whatever is stored and shipped, readers accept, whichever root they know
            verify_definition(token, certificates.fingerprint(root))
        self.store.add_definition(Signed(file.product, file.version, now, token), generic, actor)
        return definition

    def _facts(self, keys: PublisherKeys, now: int) -> catalogue.PublisherFacts:
        """The descriptor in a definition has no nonce and lasts as long as the publisher's certificate."""
        descriptor = describe(self.folder, keys, keys.revocation.status(self.store.revocations(now)), now)
        phone = keys.phone()
        return catalogue.PublisherFacts(
            self.folder.name,
            self.folder.fingerprint,
            self.folder.url,
            keys.issuer.descriptor(descriptor),
            phone.public if phone else None,
            tuple(map(certificates.der, self.folder.roots)) if self.folder.links else (),
            tuple(map(certificates.der, self.folder.links)),
        )

    def read_checkpoint(self, data: bytes) -> Checkpoint:
        """The checkpoint in a licence or a receipt that this publisher signed: ``TrustError``, ``MalformedError``."""
        token, trust = data.decode("ascii", "replace").strip(), self.folder.trust()
        if jws.parse(token, LICENCE, RECEIPT).typ == LICENCE:
            found = verify_licence(token, trust).licence.ledger
        else:
            found = Receipt.from_claim(verify(token, trust, RECEIPT).claims).ledger
        if found is None:
            raise NoCheckpointError()
        return found
