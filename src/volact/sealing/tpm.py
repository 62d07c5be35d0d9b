# SPDX-License-Identifier: Apache-2.0
"""A machine's key in its TPM 2.0: made there, and of use in no other.

What lies on disk is the key wrapped by the TPM's own storage key (TCG TPM 2.0 Library, part 1, §23): public and private
area, and how to reach the TPM.  A copy of the folder on another machine cannot sign, and is told so by name.  The
storage key is made anew for each use from the owner hierarchy's seed, which gives the same key each time, so that
nothing is kept in the TPM and no authorisation has to be managed.

Not here: attestation, and counters against rolled-back disks.  Needs the package tpm2-pytss (extra ``tpm``).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError

FORMAT = 1
SYSTEM = "device:/dev/tpmrm0"  # the kernel's resource manager; a TCTI as tpm2-tools write it
MOST_AREA, MOST_TEXT = 1024, 200

_STORAGE = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
_SIGNING = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"


class TpmPartMissingError(ConfigError):
    code = "tpm-part-missing"
    fmt = "keys in a TPM need the package tpm2-pytss, which is not installed"
    remedy = "pip install 'volact[tpm]'; it needs the system's tss2 libraries"


class TpmError(ConfigError):
    code = "tpm-unusable"
    fmt = "cannot use the TPM at {tcti}: {why}"
    remedy = "see that the machine has a TPM 2.0 and that it is switched on: `tpm2_getcap properties-fixed`"


class TpmOtherError(ConfigError):
    code = "tpm-other-machine"
    fmt = "this machine's key was made in another TPM: the folder was copied from another machine"
    remedy = (
        "run `volact client generalize`, which begins a machine of its own here; the same where the TPM was cleared"
    )


@dataclass(frozen=True, slots=True)
class TpmKey:
    """A :class:`~volact.sealing.jws.SigningKey` that only the TPM at ``tcti`` can use."""

    tcti: str
    public_area: bytes
    private_area: bytes

    @classmethod
    def generate(cls, tcti: str = SYSTEM) -> "TpmKey":
        with _opened(tcti) as tpm:
            private, public = tpm.create()
        return cls(tcti, public, private)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Read from the public area; the TPM is not asked."""
        module = _module()
        try:
            area, _ = module.TPM2B_PUBLIC.unmarshal(self.public_area)
            key = serialization.load_pem_public_key(area.to_pem())
        except Exception:  # whatever the binding makes of damaged bytes
            raise MalformedError(what="machine key", why="its public area is damaged") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedError(what="machine key", why="it is not a P-256 key")
        return key

    def sign(self, data: bytes) -> bytes:
        with _opened(self.tcti) as tpm:
            return tpm.sign(self.public_area, self.private_area, hashlib.sha256(data).digest())

    def to_bytes(self) -> bytes:
        areas = {"public": self.public_area.hex(), "private": self.private_area.hex()}
        return dump_object({"v": FORMAT, "tcti": self.tcti, **areas}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "TpmKey":
        claim = Fields(parse_object(data, "machine key"), "machine key")
        claim.integer("v", least=FORMAT, most=FORMAT)
        areas = [claim.text(name, most=2 * MOST_AREA) for name in ("public", "private")]
        try:
            public, private = map(bytes.fromhex, areas)
        except ValueError:
            raise MalformedError(what="machine key", why="an area is not hexadecimal") from None
        return cls(claim.text("tcti", most=MOST_TEXT), public, private)


def _module() -> Any:
    try:
        import tpm2_pytss
    except (ImportError, NotImplementedError, RuntimeError):  # the binding, or the libraries that it binds
        raise TpmPartMissingError() from None
    return tpm2_pytss


def _opened(tcti: str) -> "_Tpm":
    return _Tpm(_module(), tcti)


class _Tpm:
    """One conversation with a TPM; every error of the binding becomes one of ours."""

    def __init__(self, module: Any, tcti: str) -> None:
        self._module, self._tcti = module, tcti

    def __enter__(self) -> "_Tpm":
        try:
            self._tpm = self._module.ESAPI(self._tcti)
        except (self._module.TSS2_Exception, RuntimeError, ValueError) as exc:
            raise TpmError(tcti=self._tcti, why=str(exc)) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._tpm.close()

    def create(self) -> tuple[bytes, bytes]:
        module = self._module
        try:
            parent = self._storage_key()
            template = module.TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=_SIGNING)
            private, public, *_ = self._tpm.create(parent, module.TPM2B_SENSITIVE_CREATE(), template)
            self._tpm.flush_context(parent)
        except module.TSS2_Exception as exc:
            raise TpmError(tcti=self._tcti, why=str(exc)) from None
        return bytes(private.marshal()), bytes(public.marshal())

    def sign(self, public_area: bytes, private_area: bytes, digest: bytes) -> bytes:
        """r‖s.  A key that another TPM has wrapped fails to load by its integrity."""
        module = self._module
        try:
            parent = self._storage_key()
        except module.TSS2_Exception as exc:
            raise TpmError(tcti=self._tcti, why=str(exc)) from None
        try:
            key = self._load(parent, public_area, private_area)
            try:
                return self._sign(key, digest)
            finally:
                self._tpm.flush_context(key)
        except module.TSS2_Exception as exc:
            raise TpmError(tcti=self._tcti, why=str(exc)) from None
        finally:
            self._tpm.flush_context(parent)

    def _load(self, parent: Any, public_area: bytes, private_area: bytes) -> Any:
        module = self._module
        try:
            private, _ = module.TPM2B_PRIVATE.unmarshal(private_area)
            public, _ = module.TPM2B_PUBLIC.unmarshal(public_area)
            return self._tpm.load(parent, private, public)
        except module.TSS2_Exception as exc:
            if exc.fmt1 and exc.error in (module.TPM2_RC.INTEGRITY & 0x3F, module.TPM2_RC.INTEGRITY):
                raise TpmOtherError() from None
            raise

    def _sign(self, key: Any, digest: bytes) -> bytes:
        module = self._module
        ticket = module.TPMT_TK_HASHCHECK(tag=module.TPM2_ST.HASHCHECK, hierarchy=module.TPM2_RH.NULL)
        scheme = module.TPMT_SIG_SCHEME(scheme=module.TPM2_ALG.NULL)
        made = self._tpm.sign(key, module.TPM2B_DIGEST(digest), scheme, ticket)  # owns what is read below
        halves = (made.signature.ecdsa.signatureR, made.signature.ecdsa.signatureS)
        return b"".join(bytes(half).rjust(32, b"\0") for half in halves)

    def _storage_key(self) -> Any:
        module = self._module
        template = module.TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=_STORAGE)
        handle, *_ = self._tpm.create_primary(module.TPM2B_SENSITIVE_CREATE(), template, module.ESYS_TR.OWNER)
        return handle
