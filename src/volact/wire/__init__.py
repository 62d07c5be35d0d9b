# SPDX-License-Identifier: Apache-2.0
"""The contract on the network: generated messages, and adapters between them and an issuer.  Imports ``core`` only.

``proto/volact/v1`` is the contract and ``gen`` is made from it (``make proto``).  ``server`` and ``serve`` need the
``rpc`` extra; ``client`` is the bare client's, over the standard library.  Spec: docs/spec/rpc.md.
"""

SERVICE = "/volact.v1.ActivationService"
MAX_BODY = 64 * 1024  # the largest legal request is below 8 KiB, with ML-KEM's 1.1 KiB and 16 traits in it
DEFAULT_PORT = 1688
ERROR_HEADER = "volact-error"  # the stable code of an unsigned error: a hint about the network, never an answer
