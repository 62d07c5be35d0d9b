# SPDX-License-Identifier: Apache-2.0
"""A machine's key in its TPM 2.0: made there, and of use in no other.

What lies on disk is the key wrapped by the TPM's own storage key (TCG TPM 2.0 Library, part 1, §23): public and private
area, and how to reach the TPM.  A copy of the folder on another machine cannot sign, and is told so by name.  The
storage key is made anew for each use from the owner hierarchy's seed, which gives the same key each time, so that
nothing is kept in the TPM and no authorisation has to be managed.

A :class:`TpmCounter` is one of the TPM's own monotonic counters, which no restored disk image takes back, and what the
TPM says of it (docs/spec/returns.md §5).  Its key is made anew for each use as well.

Not here: what a statement is worth (``attestation``).  Needs the package tpm2-pytss (extra ``tpm``).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.counter import Attested
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError

FORMAT = 1
SYSTEM = "device:/dev/tpmrm0"  # the kernel's resource manager; a TCTI as tpm2-tools write it
MOST_AREA, MOST_TEXT = 1024, 200

_STORAGE = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
_SIGNING = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
_ATTESTING = f"restricted|{_SIGNING}"
# AUTHREAD, AUTHWRITE, OWNERREAD, OWNERWRITE, NO_DA and the type "counter": whoever may use the TPM may count on.
_COUNTER = 1 << 18 | 1 << 2 | 1 << 17 | 1 << 1 | 1 << 25 | 1 << 4
COUNTER_SIZE = 8
FIRST_INDEX, INDEXES = 0x01A00000, 1 << 20  # of the part that TCG leaves to the owner (registry of reserved handles)
# Where TPM makers put the certificates of their endorsement keys (TCG EK credential profile, §2.2.1.4): the kinds that
# can be used here, the quicker one first.
_ENDORSEMENTS = ("EK-ECC256", "EK-RSA2048")


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


@dataclass(frozen=True, slots=True)
class TpmCounter:
    """The counter at ``index`` of the TPM at ``tcti``."""

    tcti: str
    index: int

    def read(self) -> tuple[bytes, int] | None:
        """Its name and where it stands; ``None`` where there is none."""
        with _opened(self.tcti) as tpm:
            return tpm.read_counter(self.index)

    def prepare(self) -> int:
        """Where it stands; made where there is none."""
        with _opened(self.tcti) as tpm:
            return tpm.prepare_counter(self.index)

    def count_on(self) -> None:
        with _opened(self.tcti) as tpm:
            tpm.count_on(self.index)

    def certify(self, made_for: bytes) -> Attested:
        """The TPM's own word on where it stands."""
        with _opened(self.tcti) as tpm:
            return tpm.certify_counter(self.index, made_for)

    def endorsement(self) -> bytes | None:
        """The certificate of the TPM's endorsement key, DER; ``None`` where its maker left none that is of use."""
        with _opened(self.tcti) as tpm:
            found = tpm.endorsement()
            return None if found is None else found[0]

    def take_out(self, credential: bytes) -> bytes:
        """The secret of a credential that was made for this TPM and the key that certifies."""
        with _opened(self.tcti) as tpm:
            return tpm.take_out(credential)


def _module() -> Any:
    os.environ.setdefault("TSS2_LOG", "all+none")  # the libraries would print each "no" of the TPM to stderr
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

    # ---- the counter

    def read_counter(self, index: int) -> tuple[bytes, int] | None:
        with self._named():
            handle = self._counter(index)
            if handle is None:
                return None
            _, name = self._tpm.nv_read_public(handle)
            return bytes(name), int.from_bytes(bytes(self._tpm.nv_read(handle, COUNTER_SIZE)), "big")

    def prepare_counter(self, index: int) -> int:
        """An index that was made and never counted (the power went) has no value yet."""
        module = self._module
        with self._named():
            handle = self._counter(index)
            if handle is None:
                public = module.TPMS_NV_PUBLIC(
                    nvIndex=index,
                    nameAlg=module.TPM2_ALG.SHA256,
                    attributes=_COUNTER,
                    authPolicy=b"",
                    dataSize=COUNTER_SIZE,
                )
                handle = self._tpm.nv_define_space(None, module.TPM2B_NV_PUBLIC(nvPublic=public))
            public, _ = self._tpm.nv_read_public(handle)
            if not public.nvPublic.attributes & module.TPMA_NV.WRITTEN:
                self._tpm.nv_increment(handle)
            return int.from_bytes(bytes(self._tpm.nv_read(handle, COUNTER_SIZE)), "big")

    def count_on(self, index: int) -> None:
        with self._named():
            self._tpm.nv_increment(self._existing(index))

    def certify_counter(self, index: int, made_for: bytes) -> Attested:
        module = self._module
        with self._named():
            handle = self._existing(index)
            public, _ = self._tpm.nv_read_public(handle)
            key, area = self._attesting_key()
            try:
                scheme = module.TPMT_SIG_SCHEME(scheme=module.TPM2_ALG.NULL)
                statement, made = self._tpm.nv_certify(key, handle, made_for, scheme, COUNTER_SIZE)
            finally:
                self._tpm.flush_context(key)
            index_area, statement_bytes = bytes(public.nvPublic.marshal()), bytes(statement.attestationData)
            return Attested(area, index_area, statement_bytes, _raw_signature(made))

    def endorsement(self) -> tuple[bytes, Any] | None:
        """The first endorsement certificate, and the template of its key."""
        from tpm2_pytss import utils

        for kind in _ENDORSEMENTS:
            try:
                certificate, template = utils.create_ek_template(kind, utils.NVReadEK(self._tpm))
            except (self._module.TSS2_Exception, utils.NoSuchIndex, ValueError):
                continue
            if certificate:
                return _without_padding(bytes(certificate)), template
        return None

    def take_out(self, credential: bytes) -> bytes:
        module = self._module
        with self._named():
            found = self.endorsement()
            if found is None:
                raise TpmError(tcti=self._tcti, why="it has no endorsement certificate")
            identity, rest = module.TPM2B_ID_OBJECT.unmarshal(credential)
            encrypted, _ = module.TPM2B_ENCRYPTED_SECRET.unmarshal(credential[rest:])
            key, _ = self._attesting_key()
            try:
                endorsement, *_ = self._tpm.create_primary(
                    module.TPM2B_SENSITIVE_CREATE(), found[1], module.ESYS_TR.ENDORSEMENT
                )
                try:
                    return self._activate(endorsement, key, identity, encrypted)
                finally:
                    self._tpm.flush_context(endorsement)
            finally:
                self._tpm.flush_context(key)

    def _activate(self, endorsement: Any, key: Any, identity: Any, encrypted: Any) -> bytes:
        """The endorsement key's own policy asks for the endorsement hierarchy's authorisation, which is empty."""
        module = self._module
        session = self._tpm.start_auth_session(
            module.ESYS_TR.NONE, module.ESYS_TR.NONE, module.TPM2_SE.POLICY, None, module.TPM2_ALG.SHA256
        )
        try:
            self._tpm.policy_secret(module.ESYS_TR.ENDORSEMENT, session)
            return bytes(
                self._tpm.activate_credential(
                    key, endorsement, identity, encrypted, session1=module.ESYS_TR.PASSWORD, session2=session
                )
            )
        finally:
            self._tpm.flush_context(session)

    def _attesting_key(self) -> tuple[Any, bytes]:
        """Restricted to what the TPM says itself; made from the owner hierarchy's seed, the same key each time."""
        module = self._module
        template = module.TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=_ATTESTING)
        handle, public, *_ = self._tpm.create_primary(module.TPM2B_SENSITIVE_CREATE(), template, module.ESYS_TR.OWNER)
        return handle, bytes(public.publicArea.marshal())

    def _counter(self, index: int) -> Any:
        module = self._module
        _, found = self._tpm.get_capability(module.TPM2_CAP.HANDLES, index, 1)
        handles = list(found.data.handles)
        return self._tpm.tr_from_tpmpublic(index) if handles and int(handles[0]) == index else None

    def _existing(self, index: int) -> Any:
        handle = self._counter(index)
        if handle is None:
            raise TpmError(tcti=self._tcti, why=f"it has no counter at {index:#x}")
        return handle

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._module.TSS2_Exception as exc:
            raise TpmError(tcti=self._tcti, why=str(exc)) from None

    # ---- keys

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
        return _raw_signature(made)

    def _storage_key(self) -> Any:
        module = self._module
        template = module.TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=_STORAGE)
        handle, *_ = self._tpm.create_primary(module.TPM2B_SENSITIVE_CREATE(), template, module.ESYS_TR.OWNER)
        return handle


def _raw_signature(made: Any) -> bytes:
    halves = (made.signature.ecdsa.signatureR, made.signature.ecdsa.signatureS)
    return b"".join(bytes(half).rjust(32, b"\0") for half in halves)


def _without_padding(certificate: bytes) -> bytes:
    """The index may be larger than the certificate in it: DER says how long it is."""
    if len(certificate) > 4 and certificate[:2] == b"\x30\x82":
        return certificate[: 4 + int.from_bytes(certificate[2:4])]
    return certificate
