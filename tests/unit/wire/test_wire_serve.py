# SPDX-License-Identifier: Apache-2.0
"""Files of TLS that do not fit are named before anything is started, and not by each worker."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from volact.sealing import certificates
from volact.wire.serve import Listener, TlsFilesError, serve

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def pem(key: ec.EllipticCurvePrivateKey, how: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


CERTIFICATE = certificates.pem(certificates.make_root(KEY, "a test", 1_800_000_000, 1))


def never() -> None:
    raise AssertionError("something was started")


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        (None, pem(KEY, NoEncryption()), "{folder}/certificate: No such file or directory"),
        (CERTIFICATE, None, "{folder}/key: No such file or directory"),
        (CERTIFICATE, pem(OTHER, NoEncryption()), "key values mismatch"),
        (CERTIFICATE, pem(KEY, BestAvailableEncryption(b"secret")), "the key is encrypted, or one of them is no PEM"),
        (b"no certificate", pem(KEY, NoEncryption()), "the key is encrypted, or one of them is no PEM"),
    ],
    ids=["no certificate", "no key", "another's key", "an encrypted key", "no PEM"],
)
def test_files_of_tls_that_do_not_fit_are_named(
    tmp_path: Path, pick_port: Callable[[], int], certificate: bytes | None, key: bytes | None, why: str
) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    for file, data in zip(files, (certificate, key), strict=True):
        if data is not None:
            file.write_bytes(data)
    listener = Listener("127.0.0.1", pick_port(), certificate=files[0], key=files[1])
    with pytest.raises(TlsFilesError) as caught:
        serve(never, listener, on_start=never, on_stop=never)
    assert caught.value.fields["why"] == why.format(folder=tmp_path)
