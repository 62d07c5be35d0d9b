# SPDX-License-Identifier: Apache-2.0
"""A TPM 2.0 of the test's own (swtpm), and a maker that certifies its endorsement key.

The state lies in a folder, so that a test may copy it as an attacker copies a virtual machine's.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

INDEXES = {"EK-RSA2048": 0x01C00002, "EK-ECC256": 0x01C0000A}
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")


@contextlib.contextmanager
def running(folder: Path, port: int) -> Iterator[str]:
    """The TCTI of a TPM whose state is in ``folder``; ``port`` and the next one must be free."""
    folder.mkdir(exist_ok=True)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "not-need-init,startup-clear"]
    where = ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    process = subprocess.Popen([*command, *where], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port + 1), 1):
                break
        yield f"swtpm:host=127.0.0.1,port={port}"
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Maker:
    """Who makes TPMs: a CA, and what it leaves in each of them."""

    name: str = "Example TPM maker"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    since: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    @property
    def certificate(self) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        return self._sign(self._name, self.key.public_key(), constraints)

    def certify(self, key: Any, usage: x509.ObjectIdentifier = EK_USAGE) -> bytes:
        made = self._sign(x509.Name([]), key, x509.ExtendedKeyUsage([usage]))
        return made.public_bytes(serialization.Encoding.DER)

    def endorse(self, tcti: str, kind: str = "EK-ECC256") -> bytes:
        """Certify a TPM's endorsement key and leave the certificate in it, where such are looked for."""
        import tpm2_pytss as tss
        from tpm2_pytss import utils

        with tss.ESAPI(tcti) as tpm:
            _, template = utils.create_ek_template(kind, utils.NVReadEK(tpm))
            handle, public, *_ = tpm.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template, tss.ESYS_TR.ENDORSEMENT)
            tpm.flush_context(handle)
            certificate = self.certify(serialization.load_pem_public_key(public.to_pem()))
            rights = tss.TPMA_NV.AUTHREAD | tss.TPMA_NV.AUTHWRITE | tss.TPMA_NV.OWNERREAD | tss.TPMA_NV.OWNERWRITE
            index = tss.TPMS_NV_PUBLIC(
                nvIndex=INDEXES[kind],
                nameAlg=tss.TPM2_ALG.SHA256,
                attributes=rights | tss.TPMA_NV.NO_DA,
                authPolicy=b"",
                dataSize=len(certificate) + 7,  # as makers do: the index is larger than what is in it
            )
            tpm.nv_write(tpm.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=index)), certificate)
        return certificate

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])

    def _sign(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(self.since)
        builder = builder.not_valid_after(self.since + timedelta(days=30 * 365))
        return builder.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())
