# SPDX-License-Identifier: Apache-2.0
"""The archive of a backup: what goes in, and that nothing but exactly that comes out."""

import gzip
import io
import json
import os
import sqlite3
import tarfile

import pytest

from volact.sql import archive
from volact.sql.archive import BackupDamagedError, BackupRestlessError, Contents
from volact.sql.backup import SQLITE_NAME, DumpFailedError, DumpProgramMissingError, copy_database
from volact.sql.errors import DatabaseCorruptError, DatabaseUnavailableError

NOW = 1_800_000_000


@pytest.fixture
def role(tmp_path):
    """A folder with a database that is in use."""
    folder = tmp_path / "role"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "one.key").write_text("key")
    (folder / "about.json").write_text("{}")
    conn = sqlite3.connect(folder / "role.db")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("CREATE TABLE t (a)")
    conn.execute("INSERT INTO t VALUES (7)")
    conn.commit()
    for name in ("role.db.lock", ".half.tmp", "control.sock"):
        (folder / name).write_text("")
    (folder / "link").symlink_to("/etc/passwd")
    yield folder
    conn.close()


def write(role, target, **more):
    given = {"kind": "role", "now": NOW, "version": "1.0", "leave_out": frozenset()}
    return archive.write(target, role, role / "role.db", **{**given, **more})


def restore(source, folder, kind="role", check=lambda folder: None):
    return archive.restore(source, folder, kind, lambda contents, work: work / "role.db", check)


def test_files_and_database_come_back_and_what_is_only_of_the_moment_does_not(role, tmp_path):
    write(role, tmp_path / "b", leave_out=frozenset({"about.json"}))
    restore(tmp_path / "b", tmp_path / "again")
    found = {str(path.relative_to(tmp_path / "again")) for path in (tmp_path / "again").rglob("*")}
    assert found == {"keys", "keys/one.key", "role.db"}
    with sqlite3.connect(tmp_path / "again" / "role.db") as conn:
        assert conn.execute("SELECT a FROM t").fetchall() == [(7,)]
    conn.close()
    for path in (tmp_path / "again").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_any_tool_reads_it(role, tmp_path):
    write(role, tmp_path / "b")
    with tarfile.open(tmp_path / "b") as found:
        assert found.getnames() == ["backup.json", SQLITE_NAME, "about.json", "keys/one.key"]


def test_what_a_check_finds_takes_everything_back(role, tmp_path):
    write(role, tmp_path / "b")

    def check(folder):
        assert (folder / "role.db").exists()
        raise DatabaseCorruptError(database="x")

    with pytest.raises(DatabaseCorruptError):
        restore(tmp_path / "b", tmp_path / "again", check=check)
    assert {path.name for path in tmp_path.iterdir()} == {"role", "b"}


def test_files_that_change_all_the_time_are_not_taken_for_a_backup(role, tmp_path, monkeypatch):
    copy = copy_database

    def changing(database, folder):
        (role / "about.json").write_text(os.urandom(8).hex())
        return copy(database, folder)

    monkeypatch.setattr(archive, "copy_database", changing)
    with pytest.raises(BackupRestlessError):
        write(role, tmp_path / "b")
    assert {path.name for path in tmp_path.iterdir()} == {"role"}


def test_a_file_that_changes_once_is_copied_again(role, tmp_path, monkeypatch):
    copy = copy_database
    times: list[int] = []

    def changing(database, folder):
        if not times:
            (role / "about.json").write_text('{"new":1}')
        times.append(1)
        return copy(database, folder)

    monkeypatch.setattr(archive, "copy_database", changing)
    write(role, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "again")
    assert (tmp_path / "again" / "about.json").read_text() == '{"new":1}'


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return [(one, read(found, one)) for one in found.getmembers()]


def read(archived, member):
    file = archived.extractfile(member)
    assert file is not None
    return file.read()


def pack(parts):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as made:
        for member, data in parts:
            member.size = len(data) if member.isreg() else 0
            made.addfile(member, io.BytesIO(data))
    return raw.getvalue()


def relist(parts, change):
    about = json.loads(parts[0][1])
    change(about)
    return [(parts[0][0], json.dumps(about).encode()), *parts[1:]]


def escape(parts, name):
    parts = relist(parts, lambda about: about["files"][1].update(name=name))
    parts[2][0].name = name
    return parts


def linked(parts):
    parts[2][0].type, parts[2][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    return parts


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: parts[1:],
        lambda parts: parts[:-1],
        lambda parts: [*parts, parts[-1]],
        lambda parts: [parts[0], parts[2], parts[1], *parts[3:]],
        lambda parts: [*parts[:-1], (parts[-1][0], b"other")],
        lambda parts: [*parts[:-1], (parts[-1][0], b"kex")],
        lambda parts: escape(parts, "../escaped"),
        lambda parts: escape(parts, "/tmp/escaped"),
        lambda parts: escape(parts, "keys/../../escaped"),
        lambda parts: escape(parts, ".hidden"),
        linked,
        lambda parts: relist(parts, lambda about: about.update(v=2)),
        lambda parts: relist(parts, lambda about: about["files"].pop(0)),
        lambda parts: relist(parts, lambda about: about["files"].append(about["files"][0])),
        lambda parts: relist(parts, lambda about: about["files"][0].update(sha256="0")),
    ],
)
def test_whatever_is_not_exactly_what_the_list_says_restores_nothing(role, tmp_path, damage):
    write(role, tmp_path / "b")
    (tmp_path / "bad").write_bytes(pack(damage(members((tmp_path / "b").read_bytes()))))
    with pytest.raises(BackupDamagedError):
        restore(tmp_path / "bad", tmp_path / "again")
    assert {path.name for path in tmp_path.iterdir()} == {"role", "b", "bad"}


def test_a_backup_cut_off_anywhere_restores_nothing(role, tmp_path):
    write(role, tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    for cut in (0, 1, 10, 200, len(data) // 2, len(data) - 9, len(data) - 1):
        (tmp_path / "bad").write_bytes(data[:cut])
        with pytest.raises(BackupDamagedError):
            restore(tmp_path / "bad", tmp_path / "again")
    for junk in (b"nonsense", gzip.compress(b"nonsense"), gzip.compress(b"\0" * 4096)):
        (tmp_path / "bad").write_bytes(junk)
        with pytest.raises(BackupDamagedError):
            restore(tmp_path / "bad", tmp_path / "again")


def test_a_list_reads_back_as_it_was_written(role, tmp_path):
    contents = write(role, tmp_path / "b")
    assert Contents.from_bytes(contents.to_bytes()) == contents


def test_a_database_that_is_none_is_said_so(tmp_path):
    with pytest.raises(DatabaseUnavailableError):
        copy_database(tmp_path / "none", tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "bad").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DatabaseCorruptError):
        copy_database(tmp_path / "bad", tmp_path)


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DumpProgramMissingError, match="pg_dump"):
        copy_database("postgresql://127.0.0.1:1/none", tmp_path)


@pytest.mark.needs("postgresql")
def test_a_server_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(DumpFailedError, match="pg_dump"):
        copy_database("postgresql://127.0.0.1:1/none", tmp_path)


@pytest.mark.parametrize("address", ["postgresql://ann:s3cret@db/v", "postgresql://ann@db/v?password=s3cret"])
def test_a_password_is_no_argument_of_a_program(tmp_path, monkeypatch, address):
    """Every user of a computer sees the arguments of its programs."""
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "$PGPASSWORD" > {tmp_path}/password\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    copy_database(address, tmp_path)
    assert "s3cret" not in (tmp_path / "arguments").read_text()
    assert "postgresql://ann@db/v" in (tmp_path / "arguments").read_text()
    assert (tmp_path / "password").read_text() == "s3cret\n"
