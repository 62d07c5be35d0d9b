# SPDX-License-Identifier: Apache-2.0
"""The ``needs`` marker and the ports, as tests/conftest.py promises them."""

import importlib.util
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    """tests/conftest.py; ``import conftest`` would give the one of any folder that was collected before."""
    spec = importlib.util.spec_from_file_location("root_conftest", Path(__file__).resolve().parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


conftest = _load()
GONE = {
    "gone": conftest.Part(lambda: False, "nowhere"),
    "here": conftest.Part(lambda: True, "everywhere"),
    "forbidden": conftest.Part(lambda: True, "a right", lambda: False),
}


def test_a_missing_part_skips_with_its_name_and_source(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOLACT_REQUIRE_PARTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"missing: gone \(nowhere"):
        _set_up_with_needs(request, monkeypatch, "here", "gone")


def test_a_missing_part_fails_where_parts_are_required(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLACT_REQUIRE_PARTS", "1")
    with pytest.raises(pytest.fail.Exception, match=r"missing: gone"):
        _set_up_with_needs(request, monkeypatch, "gone")


def test_a_part_that_the_computer_does_not_allow_is_no_fault_of_what_is_installed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLACT_REQUIRE_PARTS", "1")
    with pytest.raises(pytest.skip.Exception, match=r"does not allow: forbidden \(a right"):
        _set_up_with_needs(request, monkeypatch, "here", "forbidden")
    with pytest.raises(pytest.fail.Exception, match=r"missing: gone"):
        _set_up_with_needs(request, monkeypatch, "gone", "forbidden")


def test_a_part_that_is_there_lets_the_test_run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLACT_REQUIRE_PARTS", "1")
    _set_up_with_needs(request, monkeypatch, "here")


def test_an_unknown_part_is_a_mistake_in_the_test(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(pytest.UsageError, match="no such part"):
        _set_up_with_needs(request, monkeypatch, "typo")


def test_picked_ports_differ_and_can_be_bound(pick_port: Callable[[], int], free_port: int) -> None:
    ports = [free_port, *(pick_port() for _ in range(20))]
    assert len(set(ports)) == len(ports)
    with socket.create_server(("127.0.0.1", free_port)):
        assert 20_000 <= free_port < 32_000


def _set_up_with_needs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(conftest, "PARTS", GONE)
    request.node.add_marker(pytest.mark.needs(*names))
    conftest.pytest_runtest_setup(request.node)
