# SPDX-License-Identifier: Apache-2.0
"""``volact fleet serve`` as a process of its own: the API over TCP, a job worked on, a schedule run, a clean end."""

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.processes import Server, wait_for
from volact.fleet.api import Fleet
from volact.fleet.rest import tokens
from volact.fleet.schedules import schedule


def test_the_service_answers_works_on_jobs_and_runs_schedules(tmp_path: Path, pick_port: Callable[[], int]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Fleet.init(tmp_path / "fleet") as fleet:
        fleet.discover(["127.0.0.1:1"])
        secret = tokens.make(fleet, "test", "operator")[1]
        arguments = {"report": "overview", "folder": str(out), "formats": ["json"]}
        fleet.schedule_add("now", "@daily", "report", arguments)
        with fleet.store.write() as conn:
            schedule.run_now(conn, "now", int(time.time()), "tester")
        port = pick_port()
        server = Server(["fleet", "serve", "--dir", fleet.folder.path, "--port", port], tmp_path / "log", port)
        try:
            server.wait_until("/api/v1/openapi.json")
            job = ask(port, secret, "POST", "/refresh", {})
            assert job["state"] == "queued"
            wait_for(lambda: ask(port, secret, "GET", f"/jobs/{job['id']}")["state"] == "done")
            wait_for(lambda: any(out.iterdir()))
            (task,) = ask(port, secret, "GET", f"/jobs/{job['id']}/tasks")["items"]
            assert task["state"] == "failed"
            wait_for(lambda: "scheduled-report" in [row.act for row in fleet.audit()])
        finally:
            server.stop()
        assert "stopped" in server.log


def ask(port: int, secret: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1{path}", method=method)
    request.add_header("Authorization", f"Bearer {secret}")
    request.add_header("Content-Type", "application/json")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=120) as answer:
        return json.load(answer)
