# SPDX-License-Identifier: Apache-2.0
"""The publisher's folder: its keys, its certificates, and where its database is.

    publisher.json                  name, address, suite, and the database's address where it is PostgreSQL
    publisher.db                    the database where it is SQLite, see ``schema``
    root/root.key                   signs the issuing CA, once: to be taken offline; nothing else needs it
    certificates/NAME.pem           root, issuing, publisher-issuer, definition, revocation
    certificates/roots.pem, links.pem   every root in order and their cross certificates, once the root was rotated
    keys/NAME.key                   the same without root, and sealing: the keys of a running service
    old/SERIAL/                     both folders as they were before the issuing CA was rotated
    keys/phone.json                 the key of confirmation IDs, an EIP-2335 keystore
    root/root.token, keys/NAME.token    in the place of a .key: where in a PKCS#11 token it is, see ``hardware``
    stamp                           changed with the keys, so that a running service reads them anew, see ``renewal``

Key files are encrypted under one passphrase.  ``files`` names and certificates · ``opening`` the folder and its keys,
opened · ``making`` a new one · ``hardware`` keys in files or tokens · ``phone_key`` of confirmation IDs ·
``generations`` and ``rotation`` keys that follow one another · ``renewal`` how a running service takes them ·
``descriptor`` what it says of itself · ``backup``.  Imports ``store`` and what is below it.

Spec: docs/guide/publisher.md.
"""
