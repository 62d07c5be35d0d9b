# SPDX-License-Identifier: Apache-2.0
"""Certificates, JWS, HPKE and key files: everything that signs, verifies, seals or opens.  Imports ``core`` only.

Compositions of standards (RFC 5280, 7515, 7638, 9180) over pyca/cryptography; no cryptography of our own.  The one
way to accept foreign bytes is :mod:`volact.sealing.verify`.
"""
