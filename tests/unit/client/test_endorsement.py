# SPDX-License-Identifier: Apache-2.0
"""The ``tpm-ek`` trait: read from a real TPM's software, left out by rule where there is none, kept for one start."""

import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.tpm import running
from volact.client.platform import endorsement, traits
from volact.core.fingerprint import Fingerprint, Trait

SALT, OTHER_SALT = bytes(range(32)), bytes(range(1, 33))
BOOT = "3c2c9a8e-0c43-4a3e-9a55-0d2f1f7a9f11"


def tcp(tcti: str) -> endorsement.Exchange:
    """swtpm takes on TCP what the kernel's device takes."""
    port = int(tcti.rpartition("=")[2])

    def exchange(command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(command)
            answer = connection.recv(10)
            while len(answer) < int.from_bytes(answer[2:6]):
                answer += connection.recv(4096)
            return answer

    return exchange


@pytest.fixture
def tpm(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[str]:
    port = pick_port()
    pick_port()
    with running(tmp_path / "tpm", port) as tcti:
        yield tcti


@pytest.mark.needs("swtpm")
def test_the_key_is_the_same_each_time_and_another_in_another_tpm(
    tpm: str, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    first = endorsement.ask(tcp(tpm))
    assert [endorsement.ask(tcp(tpm)) for _ in range(6)] == [first] * 6  # more often than a TPM has room for keys
    port = pick_port()
    pick_port()
    with running(tmp_path / "other", port) as other:
        assert endorsement.ask(tcp(other)) != first


@pytest.mark.needs("swtpm", "tpm2-pytss")
def test_it_is_the_key_of_tcg_s_default_template(tpm: str) -> None:
    import hashlib

    import tpm2_pytss as tss
    from tpm2_pytss import utils

    ours = endorsement.ask(tcp(tpm))
    with tss.ESAPI(tpm) as esapi:
        _, template = utils.create_ek_template("EK-ECC256", utils.NVReadEK(esapi))
        _, public, *_ = esapi.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template, tss.ESYS_TR.ENDORSEMENT)
        assert ours == hashlib.sha256(bytes(public.publicArea.marshal())).hexdigest()


@pytest.mark.needs("swtpm")
def test_two_publishers_cannot_compare_it(tpm: str) -> None:
    raw = {Trait.TPM_EK: endorsement.ask(tcp(tpm))}
    one, other = Fingerprint.of(raw, SALT), Fingerprint.of(raw, OTHER_SALT)
    assert set(one.traits) == {"tpm-ek"}
    assert one.traits["tpm-ek"] != other.traits["tpm-ek"]


def tree(root: Path) -> Path:
    (root / "proc/sys/kernel/random").mkdir(parents=True)
    (root / endorsement.BOOT).write_text(BOOT + "\n")
    (root / "run").mkdir()
    return root


def test_a_computer_without_a_tpm_has_no_such_trait(tmp_path: Path) -> None:
    assert endorsement.read(tree(tmp_path)) == ""
    assert Trait.TPM_EK not in traits.collect(tmp_path)
    assert not (tmp_path / "run/volact").exists()


def test_what_was_read_is_kept_until_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def exchange(command: bytes) -> bytes:
        asked.append(command)
        return answer(b"public area")

    monkeypatch.setattr(endorsement, "_exchange_with", lambda device: exchange)
    first = endorsement.read(tree(tmp_path))
    assert endorsement.read(tmp_path) == first
    assert len(asked) == 2  # made, and let go again
    kept = tmp_path / endorsement.KEPT
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert traits.collect(tmp_path)[Trait.TPM_EK] == first
    (tmp_path / endorsement.BOOT).write_text("another start\n")
    endorsement.read(tmp_path)
    assert len(asked) == 4


def test_in_a_container_the_host_s_tpm_is_not_taken(tmp_path: Path) -> None:
    (tree(tmp_path) / ".dockerenv").touch()
    (tmp_path / "run/volact").mkdir()
    (tmp_path / endorsement.KEPT).write_text(f"{BOOT} {'5' * 8}abc\n")
    assert Trait.TPM_EK not in traits.collect(tmp_path)


@pytest.mark.parametrize("bad", [b"", b"\x80\x01", b"\x80\x01\0\0\0\x0a\0\0\x01\x43"])
def test_a_tpm_that_says_no_or_too_little_is_no_trait(bad: bytes) -> None:
    with pytest.raises(ValueError, match="TPM"):
        endorsement.ask(lambda command: bad)


@pytest.mark.parametrize("cut", range(1, 30))
def test_an_answer_that_ends_early_is_no_trait(cut: int) -> None:
    with pytest.raises(ValueError, match="TPM"):
        endorsement.ask(lambda command: answer(b"public area")[:-cut])


def answer(public: bytes) -> bytes:
    body = (0x80000000).to_bytes(4) + bytes(4) + len(public).to_bytes(2) + public
    return b"\x80\x02" + (10 + len(body)).to_bytes(4) + bytes(4) + body
