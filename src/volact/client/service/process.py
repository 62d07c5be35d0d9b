# SPDX-License-Identifier: Apache-2.0
"""The licensing service: sleeps until something is due, then has a round done by a process that ends again.

This process stays small (standard library only, no cryptography) and does next to nothing: it waits for the wall
clock, for the clock being set, for the network after a failed attempt, for keys and products being changed, for a
caller at the local API's socket, and for signals.  Rounds (``rounds``) and the local API (``api``) run as children, so
that no fault of theirs, no memory and no hanging issuer stays here.  What a round found is in the folder; nothing is
lost when this process or the computer stops anywhere.
Guide: docs/guide/licensing-service.md.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from volact.client.service import systemd
from volact.client.service.events import Event, Log
from volact.client.service.waking import Alarm, Changes, Network

ROUND_SECONDS = 600.0  # a round that asks every issuer of every product in vain ends well before
STOP_SECONDS = 3.0  # what a child gets to end by itself; whatever it was doing can be done again
RETRY_SECONDS = 900.0  # how long after a failed attempt the network is watched
SETTLE_SECONDS = 3.0  # after the network's last news: DHCP, routes and name servers come one after the other
LEAST_BETWEEN = 10.0  # rounds caused by changes, however often the network flaps
AFTER_FAULT = (60, 900)  # seconds until the next round after one that broke: at first, and at most
LONGEST_WAIT = 3600.0  # where the system has no alarm that notices the clock being set: how long to wait blindly
API_REST = 30.0  # after the local API's process broke
STEP_SECONDS = 30.0  # a difference between the clocks' paces that means that the wall clock was set

START, DUE, CLOCK, NETWORK, CHANGE, ASKED = "start", "due", "clock", "network", "change", "asked"


@dataclass(slots=True)
class Commands:
    """How children are started; ``because`` and the socket's descriptor are added."""

    round: Sequence[str]
    api: Sequence[str]


@dataclass(slots=True)
class Counted:
    """For tests and benchmarks: how often the process woke up, and what for."""

    wakeups: int = 0
    rounds: list[str] = field(default_factory=list)


class Service:
    """Runs until SIGTERM or SIGINT; SIGHUP asks for a round now."""

    def __init__(
        self,
        folder: Path,
        commands: Commands,
        log: Log,
        variables: Mapping[str, str],
        *,
        listener: socket.socket | None = None,
        say: Callable[[str], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self._folder, self._commands, self._log, self._variables = folder, commands, log, variables
        self._listener, self._say, self._wall = listener, say, wall
        self._random = random or Random()  # noqa: S311 - spreads retries, guards nothing
        self.counted = Counted()
        self._selector = selectors.DefaultSelector()
        self._alarm, self._changes, self._network = Alarm.open(), Changes.open(folder), Network.open()
        self._round: subprocess.Popen[bytes] | None = None
        self._round_output = b""
        self._round_ends = 0.0
        self._api: subprocess.Popen[bytes] | None = None
        self._api_not_before: float | None = None
        self._wake_at: int | None = None
        self._pending: str | None = START
        self._not_before = 0.0
        self._watch_network_until = 0.0
        self._faults = 0
        self._noted: set[str] = set()
        self._stopping = False
        self._skew = wall() - time.monotonic()

    def run(self) -> int:
        with _Signals(self._selector) as signals:
            self._register(self._alarm, self._changes, self._network, self._listener)
            started = False
            while not self._stopping:
                if self._pending is not None and self._round is None and time.monotonic() >= self._not_before:
                    self._start_round(self._pending)
                if not started and self._round is None:
                    started = True  # ready when the first round is done: what depends on us finds its licence
                    systemd.notify(self._variables, "READY=1")
                self._wait(signals)
            self._stop()
        return 0

    # ---- waiting

    def _wait(self, signals: "_Signals") -> None:
        ready = self._selector.select(self._timeout())
        self.counted.wakeups += 1
        sources = {key.fileobj for key, _ in ready}
        if signals.reader in sources:
            self._heed(signals.taken())
        if self._alarm is not None and self._alarm in sources:
            self._heed_alarm(was_set=self._alarm.clock_was_set())
        if self._network is not None and self._network in sources:
            self._heed_network(self._network)
        if self._changes is not None and self._changes in sources and self._changes.drain():
            self._want(CHANGE, 1.0)
        if self._listener is not None and self._listener in sources:
            self._start_api(self._listener)
        if self._round is not None and self._round.stdout in sources:
            self._read_round(self._round)
        self._look_at_clocks()
        self._heed_times()

    def _timeout(self) -> float | None:
        """The soonest of what has no descriptor of its own; ``None``: sleep until one is readable."""
        now, times = time.monotonic(), list[float]()
        watchdog = systemd.watchdog_seconds(self._variables)
        if watchdog is not None:
            times.append(watchdog)
        if self._round is not None:
            times.append(self._round_ends - now)
        elif self._pending is not None:
            times.append(self._not_before - now)
        if self._api is None and self._api_not_before is not None:
            times.append(self._api_not_before - now)
        if self._watch_network_until > now:
            times.append(self._watch_network_until - now)
        if self._alarm is None:
            times.append(LONGEST_WAIT)
            if self._wake_at is not None:
                times.append(self._wake_at - self._wall())
        return max(0.0, min(times)) if times else None

    def _heed(self, signals: bytes) -> None:
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stopping = True
            elif number == signal.SIGHUP:
                self._want(ASKED)
            elif number == signal.SIGCHLD:
                self._reap_api()

    def _heed_alarm(self, *, was_set: bool) -> None:
        if was_set:
            self._clock_was_set()
        else:
            self._want(DUE)

    def _clock_was_set(self) -> None:
        self._log.write(Event.CLOCK_CHANGED)
        self._skew = self._wall() - time.monotonic()
        self._set_alarm(self._wake_at)
        self._want(CLOCK, 1.0)

    def _heed_network(self, network: Network) -> None:
        network.drain()
        if time.monotonic() < self._watch_network_until:
            self._want(NETWORK, SETTLE_SECONDS)
        else:
            with suppress(KeyError):
                self._selector.unregister(network)

    def _look_at_clocks(self) -> None:
        """Where there is no alarm: the wall clock against the one that nobody can set."""
        if self._alarm is None and abs(self._wall() - time.monotonic() - self._skew) > STEP_SECONDS:
            self._clock_was_set()

    def _heed_times(self) -> None:
        now = time.monotonic()
        self._resume_api()
        systemd.notify(self._variables, "WATCHDOG=1")
        if self._round is not None and now >= self._round_ends:
            self._round.kill()
        if self._alarm is None and self._wake_at is not None and self._wall() >= self._wake_at:
            self._want(DUE)

    def _want(self, because: str, wait: float = 0.0) -> None:
        """A round soon.  One that is running is followed by another; changes are given time to settle."""
        order = (DUE, START, CHANGE, CLOCK, ASKED, NETWORK)
        if self._pending is None or order.index(because) > order.index(self._pending):
            self._pending = because
        now = time.monotonic()
        self._not_before = now if because == ASKED else max(self._not_before, now + wait)

    # ---- rounds

    def _start_round(self, because: str) -> None:
        self._pending = None
        self.counted.rounds.append(because)
        if because == NETWORK:
            self._log.write(Event.NETWORK_CHANGED)
        command = [*self._commands.round, "--because", because]
        try:
            self._round = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError as exc:  # out of processes or memory
            self._fault(exc.strerror or str(exc))
            return
        self._round_output, self._round_ends = b"", time.monotonic() + ROUND_SECONDS
        self._selector.register(self._round.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        if self._changes is not None:  # what it writes itself must not wake us
            self._selector.unregister(self._changes)

    def _read_round(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        data = os.read(child.stdout.fileno(), 65536)
        self._round_output += data
        if data:
            return
        self._selector.unregister(child.stdout)
        child.stdout.close()
        code = child.wait()
        self._round = None
        self._not_before = max(self._not_before, time.monotonic() + (1.0 if self._pending == CHANGE else 0.0))
        self._finish(code)
        if self._changes is not None:
            self._changes.watch()
            if self._changes.drain() and self._pending is None:
                self._want(CHANGE, LEAST_BETWEEN)
            self._selector.register(self._changes, selectors.EVENT_READ)

    def _finish(self, code: int) -> None:
        result = _result(self._round_output) if code == 0 else None
        if result is None:
            self._fault(f"a round ended with code {code}")
            return
        self._faults = 0
        for note in result["notes"]:
            if note not in self._noted:
                self._noted.add(note)
                self._log.write(Event.FOLDER_REPAIRED, message=note)
        if len(self.counted.rounds) == 1:
            self._log.write(Event.SERVICE_STARTED, products=result["products"])
        self._set_alarm(result["wake_at"])
        self._watch_network(wanted=result["network"])
        status = f"STATUS={result['licensed']} of {result['products']} products licensed"
        systemd.notify(self._variables, status)

    def _fault(self, why: str) -> None:
        """Whatever broke: said, and tried again later and later."""
        self._log.write(Event.ROUND_FAILED, why=why)
        self._say(f"a round failed: {why}")
        first, most = AFTER_FAULT
        wait = min(first * 2**self._faults, most) * self._random.uniform(1, 1.2)
        self._faults = min(self._faults + 1, 10)
        self._set_alarm(int(self._wall() + wait) + 1)

    def _set_alarm(self, at: int | None) -> None:
        self._wake_at = at
        if self._alarm is not None:
            self._alarm.set(at)

    def _watch_network(self, *, wanted: bool) -> None:
        """News of the network is listened to only while something waits for it."""
        if self._network is None:
            return
        if not wanted:
            self._watch_network_until = 0.0
            with suppress(KeyError):
                self._selector.unregister(self._network)
            return
        now = time.monotonic()
        if self._watch_network_until < now:
            self._watch_network_until = now + RETRY_SECONDS
        self._not_before = max(self._not_before, now + LEAST_BETWEEN)
        with suppress(KeyError):
            self._network.drain()  # news from before the attempt
            self._selector.register(self._network, selectors.EVENT_READ)

    # ---- the local API

    def _start_api(self, listener: socket.socket) -> None:
        """A caller waits: the API's process takes it, and ends when nobody has called for a while."""
        self._selector.unregister(listener)
        number = listener.fileno()
        command = [*self._commands.api, "--fd", str(number)]
        try:
            self._api = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])
        except OSError as exc:
            self._fault(exc.strerror or str(exc))
            self._selector.register(listener, selectors.EVENT_READ)

    def _reap_api(self) -> None:
        """Its end is the rule; one that broke gets a rest, for whoever called still waits and would start it anew."""
        if self._api is None or self._api.poll() is None:
            return
        broke, self._api = self._api.returncode != 0, None
        self._api_not_before = time.monotonic() + (API_REST if broke else 0.0)
        if broke:
            self._log.write(Event.ROUND_FAILED, why="the local API's process broke")

    def _resume_api(self) -> None:
        if self._api is None and self._api_not_before is not None and time.monotonic() >= self._api_not_before:
            assert self._listener is not None
            self._api_not_before = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    # ---- beginning and end

    def _register(self, *sources: Any) -> None:
        for source in sources:
            if source is not None and source is not self._network:
                self._selector.register(source, selectors.EVENT_READ)

    def _stop(self) -> None:
        systemd.notify(self._variables, "STOPPING=1")
        for child in (self._round, self._api):
            if child is not None:
                _end(child)
        self._log.write(Event.SERVICE_STOPPED)
        self._selector.close()
        for source in (self._alarm, self._changes, self._network):
            if source is not None:
                source.close()


class _Signals:
    """Signals as bytes in a pipe: they wake the selector, and nothing else happens inside a handler."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        selector.register(self.reader, selectors.EVENT_READ)

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, lambda *_: None) for number in self.NUMBERS}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()

    def taken(self) -> bytes:
        try:
            return self.reader.recv(4096)
        except BlockingIOError:
            return b""


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _result(output: bytes) -> dict[str, Any] | None:
    """The last line that a round printed."""
    try:
        result = json.loads(output.splitlines()[-1])
        numbers = [result[name] for name in ("wake_at", "products", "licensed")]
    except (ValueError, IndexError, KeyError, TypeError):
        return None
    good = all(type(number) is int for number in numbers) and isinstance(result.get("notes"), list)
    return result if good and isinstance(result.get("network"), bool) else None
