# SPDX-License-Identifier: Apache-2.0
"""Settings, key files and the timetable of DNS publishing; real updates are in tests/integration/dns."""

import base64
import contextlib
import json
import socket
import threading
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.host import dns as host_dns
from volact.host.dns import (
    DnsDomain,
    DnsDomainError,
    DnsKeyFileError,
    DnsPublisher,
    DnsRangeError,
    DnsServerError,
    DnsServerUnreachableError,
    DnsTargetError,
    SrvRecord,
    TsigKey,
    parse_key_file,
    publish,
    read_key_file,
    retry_delay,
)

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
KEY = f'key "volact-host" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'


@pytest.mark.parametrize(
    ("text", "domain", "priority", "weight"),
    [
        ("example.com", "example.com", 0, 0),
        (" Example.COM. , 10", "example.com", 10, 0),
        ("example.com,10,65535", "example.com", 10, 65535),
        ("corp", "corp", 0, 0),
        ("bücher.example", "xn--bcher-kva.example", 0, 0),
    ],
)
def test_a_domain_is_read_as_an_administrator_types_it(text, domain, priority, weight):
    found = DnsDomain.parse(text)
    assert (found.domain, found.priority, found.weight) == (domain, priority, weight)
    assert found.owner == f"_volact._tcp.{domain}"


def test_the_name_server_of_a_domain_is_given_beside_the_text():
    found = DnsDomain.parse("example.com", server="NS1.Example.com.", port=5353)
    assert (found.server, found.port) == ("ns1.example.com", 5353)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "@",
        "a b",
        "a..b",
        "-a.com",
        "a_.*",
        "a" * 64,
        "a." * 121 + "com",
        "10.0.0.1",
        "1.2.3",
        "a,1,2,3",
        "a/b",
    ],
)
def test_what_is_not_a_domain_is_refused(text):
    with pytest.raises(DnsDomainError):
        DnsDomain.parse(text)


@pytest.mark.parametrize("text", ["a,65536", "a,-1", "a,1,65536", "a,x", "a,", "a,1,", "a,+1", "a,1.5", "a,١"])
def test_priority_and_weight_are_numbers_of_16_bits(text):
    with pytest.raises(DnsRangeError):
        DnsDomain.parse(text)


@pytest.mark.parametrize("wrong", [{"priority": -1}, {"weight": 65536}, {"port": 0}, {"port": 65536}])
def test_settings_made_in_code_are_checked_too(wrong):
    with pytest.raises(DnsRangeError):
        DnsDomain("example.com", **wrong)


@pytest.mark.parametrize("server", ["", "a b", "300.1.1.1", "ns1:53"])
def test_a_name_server_is_an_address_or_a_name(server):
    with pytest.raises(DnsServerError):
        DnsDomain("example.com", server=server)


@given(st.text())
def test_any_text_is_a_domain_or_a_named_error(text):
    try:
        found = DnsDomain.parse(text)
    except (DnsDomainError, DnsRangeError):
        return
    assert DnsDomain.parse(f"{found.domain},{found.priority},{found.weight}") == found


def test_a_record_has_the_domains_figures_and_the_hosts_name():
    assert DnsDomain("example.com", 10, 20).record("KMS1.Example.com.", 1700) == SrvRecord(
        10, 20, 1700, "kms1.example.com"
    )
    assert str(SrvRecord(10, 20, 1700, "kms1.example.com")) == "10 20 1700 kms1.example.com."


@pytest.mark.parametrize("target", ["", "kms1", "10.0.0.1", "::1", "kms 1.example.com"])
def test_a_target_is_a_fully_qualified_name(target):
    with pytest.raises(DnsTargetError):
        DnsDomain("example.com").record(target, 1688)


def test_a_key_file_is_read_as_tsig_keygen_writes_it(tmp_path: Path):
    file = tmp_path / "host.key"
    file.write_text(KEY)
    assert read_key_file(file) == TsigKey("volact-host", "hmac-sha256", base64.b64decode(SECRET))


def test_comments_and_unquoted_words_are_read_as_bind_reads_them():
    text = f"// one\n# two\n/* three\n */ key h1. {{ secret {SECRET}; algorithm HMAC-SHA512; }};"
    assert parse_key_file(text, "f") == (TsigKey("h1", "hmac-sha512", base64.b64decode(SECRET)),)


def test_a_secret_that_looks_like_a_comment_is_none():
    assert parse_key_file('key k { algorithm hmac-sha256; secret "//8//w=="; };', "f")[0].secret == b"\xff\xff\x3f\xff"


def test_a_key_is_chosen_by_name_where_a_file_holds_several(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(KEY + KEY.replace("volact-host", "other"))
    assert read_key_file(file, "Other.").name == "other"
    for name in (None, "third"):
        with pytest.raises(DnsKeyFileError):
            read_key_file(file, name)


def test_a_secret_is_shown_nowhere(tmp_path: Path):
    key = parse_key_file(KEY, "f")[0]
    assert "secret" not in repr(key)
    for text in (KEY + "x", KEY.replace(SECRET, SECRET + "="), KEY.replace("sha256", "md5"), KEY + KEY):
        with pytest.raises(DnsKeyFileError) as caught:
            parse_key_file(text, "f")
        assert SECRET not in json.dumps(caught.value.to_dict())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        'key "k" { };',
        'key "k" { algorithm hmac-sha256; };',
        'key "k" { secret "AAAA"; };',
        'key "k" { algorithm hmac-sha256; secret "AA"; };',
        'key "k" { algorithm hmac-md5; secret "AAAA"; };',
        'key "k" { algorithm hmac-sha1; secret "AAAA"; };',
        'key "k" { algorithm hmac-sha256; secret "AAAA"; secret "BBBB"; };',
        'key "k" { algorithm hmac-sha256; secret "AAAA"; }',
        'key "k { algorithm hmac-sha256; secret "AAAA"; };',
        'key "a..b" { algorithm hmac-sha256; secret "AAAA"; };',
        'zone "x" { };',
    ],
)
def test_a_malformed_key_file_is_refused_by_its_name(text):
    with pytest.raises(DnsKeyFileError):
        parse_key_file(text, "f")


@given(st.text() | st.integers(0, len(KEY)).map(lambda cut: KEY[:cut]) | st.text().map(lambda text: KEY + text))
def test_any_text_is_keys_or_the_one_error(text):
    with contextlib.suppress(DnsKeyFileError):
        assert parse_key_file(text, "f")


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * (host_dns.MAX_KEY_FILE + 1)])
def test_an_unreadable_key_file_is_named_before_any_packet(tmp_path: Path, content):
    file = tmp_path / "host.key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DnsKeyFileError, match=str(file)):
        publish(DnsDomain("example.com", server="127.0.0.1", port=1, key_file=file), "kms1.example.com", 1688)


def test_a_server_that_is_not_there_is_named_with_the_cause():
    with pytest.raises(DnsServerUnreachableError, match=r"127\.0\.0\.1 port \d+ did not answer.*refused") as caught:
        publish(DnsDomain("example.com", server="127.0.0.1", port=_closed_port()), "kms1.example.com", 1688)
    assert "example.com" in caught.value.hint


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        domain = DnsDomain("example.com", server="127.0.0.1", port=mute.getsockname()[1])
        with pytest.raises(DnsServerUnreachableError, match="no answer in time"):
            publish(domain, "kms1.example.com", 1688, timeout=0.05)


def test_an_answer_that_is_no_dns_message_is_a_named_failure():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_garbage, args=(server,))
        thread.start()
        domain = DnsDomain("example.com", server="127.0.0.1", port=server.getsockname()[1])
        with pytest.raises(host_dns.DnsUpdateFailedError):
            publish(domain, "kms1.example.com", 1688)
        thread.join()


def test_failures_are_retried_after_5_minutes_and_then_ever_longer_up_to_an_hour():
    assert [retry_delay(failures) for failures in (0, 1, 2, 3, 4, 5, 1000)] == [300, 600, 1200, 2400, 3600, 3600, 3600]


def nothing_happens(event: host_dns.DnsEvent) -> None:
    pytest.fail(str(event))


def test_publishing_is_off_without_domains():
    threads = threading.active_count()
    publisher = DnsPublisher((), "kms1.example.com", 1688, nothing_happens)
    publisher.start()
    assert threading.active_count() == threads
    assert publisher.stop()


def test_a_publisher_says_at_once_what_it_could_not_publish():
    domain = DnsDomain("example.com")
    with pytest.raises(DnsTargetError):
        DnsPublisher([domain], "kms1", 1688, nothing_happens)
    with pytest.raises(DnsRangeError):
        DnsPublisher([domain], "kms1.example.com", 0, nothing_happens)
    with pytest.raises(DnsDomainError, match="twice"):
        DnsPublisher([domain, DnsDomain("Example.com.", 5)], "kms1.example.com", 1688, nothing_happens)


def test_a_failing_domain_is_reported_and_retried_with_growing_pauses():
    timetable = Timetable()
    events = Queue[host_dns.DnsEvent]()
    domain = DnsDomain("example.com", server="127.0.0.1", port=_closed_port())
    publisher = DnsPublisher([domain], "kms1.example.com", 1688, events.put, clock=timetable.now, wait=timetable.wait)
    publisher.start()
    seen = [events.get(timeout=60) for _ in range(4)]
    assert publisher.stop(timeout=60)
    assert {event.code for event in seen} == {"dns-publish-failed"}
    assert [event.fields["retry_in"] for event in seen] == [300, 600, 1200, 2400]
    assert {event.fields["cause"] for event in seen} == {"dns-server-unreachable"}
    assert timetable.pauses[:3] == [300, 600, 1200]
    assert _last(events).code == "dns-withdraw-failed"


def test_an_event_log_that_fails_does_not_end_the_publishing(caplog):
    timetable = Timetable()
    calls = Queue[str]()

    def full_disk(event):
        calls.put(event.code)
        raise OSError("no space left on device")

    domain = DnsDomain("example.com", server="127.0.0.1", port=_closed_port())
    publisher = DnsPublisher([domain], "kms1.example.com", 1688, full_disk, clock=timetable.now, wait=timetable.wait)
    publisher.start()
    for _ in range(2):
        calls.get(timeout=60)
    assert publisher.stop(timeout=60)
    assert "could not be written" in caplog.text


class Timetable:
    """A clock that stands still until somebody waits, and then jumps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.seconds

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.seconds += seconds
        return stopping.is_set()


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _answer_garbage(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"\x00\x04junk")


def _last(events):
    event = events.get_nowait()
    while not events.empty():
        event = events.get_nowait()
    return event
