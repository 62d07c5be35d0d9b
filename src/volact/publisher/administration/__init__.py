# SPDX-License-Identifier: Apache-2.0
"""What a publisher's administrator does: products, organisations, keys, revocation.  The command line, the HTTP API and
the desk call this and decide nothing; rules are in ``rules``, SQL in ``store``.

``publisher`` all acts in one place, and products · ``agreements`` organisations and what they bought · ``keys`` product
keys · ``revocation`` of hosts, signers and organisations · ``oem`` makers of computers · ``tokens`` of the HTTP API ·
``opened`` what every act needs · ``errors``.  Imports ``folder``, ``store`` and what is below them.

Spec: docs/guide/publisher.md.
"""
