# SPDX-License-Identifier: Apache-2.0
"""Connections on which nothing arrives are cut off, and no other: real sockets of this process."""

import socket
from contextlib import ExitStack

import pytest

from support.processes import ADDRESS, wait_for
from volact.wire.idle import IdleCutter


@pytest.fixture
def accepted():
    """A port, a client and the server's end of its connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((ADDRESS, 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        server = stack.enter_context(listener.accept()[0])
        yield listener.getsockname()[1], client, server


def test_a_silent_connection_is_cut_off_and_both_ends_see_it(accepted):
    port, client, server = accepted
    assert wait_for(lambda: IdleCutter(port, 0.05).cut()) == 1
    client.settimeout(5)
    assert client.recv(1) == b""
    assert server.recv(1) == b""
    assert IdleCutter(port, 0.05).cut() == 0


def test_data_begins_the_time_anew(accepted):
    port, client, server = accepted
    cutter = IdleCutter(port, 3600)
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    assert cutter.cut() == 0
    client.sendall(b"y")
    assert server.recv(1) == b"y"


def test_other_ports_the_listener_and_the_clients_own_end_are_left_alone(accepted, tmp_path):
    port, client, server = accepted
    one, other = socket.socketpair()
    with one, other, (tmp_path / "file").open("wb"), socket.socket(type=socket.SOCK_DGRAM):
        assert IdleCutter(port + 1 if port < 65535 else 1, 0).cut() == 0
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_its_thread_ends_when_it_is_told_to(accepted):
    port, client, _ = accepted
    cutter = IdleCutter(port, 0.05, 0.01)
    cutter.start()
    client.settimeout(10)
    assert client.recv(1) == b""
    cutter.stop()
