# SPDX-License-Identifier: Apache-2.0
"""A browser without a window: asks an ASGI application in this process, keeps cookies, fills in forms.

It sends what browsers send with a form (``Origin``, ``Sec-Fetch-Site``, the form's hidden fields), so that a test can
leave one thing out at a time.
"""

import asyncio
import re
from html.parser import HTMLParser
from types import TracebackType
from typing import Any, Self

import httpx

MOST_REDIRECTS = 8


class WebClient:
    def __init__(self, app: Any, base: str = "http://testserver", address: str = "192.0.2.1") -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app=app, client=(address, 50_000), raise_app_exceptions=True)
        self.base = base
        self.http = httpx.AsyncClient(transport=transport, base_url=base)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self.http.aclose())
        self._runner.close()

    def request(self, method: str, path: str, *, follow: bool = False, **arguments: Any) -> httpx.Response:
        response = self._runner.run(self.http.request(method, path, **arguments))
        for _ in range(MOST_REDIRECTS if follow else 0):
            if response.status_code not in (302, 303):
                break
            response = self._runner.run(self.http.get(response.headers["location"]))
        return response

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, follow=True, **arguments)

    def post(self, path: str, data: dict[str, Any] | None = None, **arguments: Any) -> httpx.Response:
        """As a script of no page of ours would: just what is given."""
        return self.request("POST", path, data=data or {}, **arguments)

    def send(self, page: httpx.Response, path: str, files: Any = None, **fields: Any) -> httpx.Response:
        """The form of ``page`` whose action is ``path``, with its hidden fields, as a browser sends it."""
        form = next((one for one in forms(page.text) if one.method == "post" and one.action in (path, "")), None)
        assert form is not None, f"no form leads to {path}"
        headers = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"}
        data = {**form.hidden, **fields}
        return self.request("POST", path, follow=True, data=data, files=files, headers=headers)


class FormFound:
    def __init__(self, action: str, method: str) -> None:
        self.action, self.method = action, method
        self.hidden: dict[str, str] = {}


def forms(html: str) -> list[FormFound]:
    reader = _Forms()
    reader.feed(html)
    return reader.found


def token_of(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert found is not None, "the page has no form"
    return found[1]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[FormFound] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(FormFound(values.get("action", ""), values.get("method", "get")))
        elif tag == "input" and values.get("type") == "hidden" and self.found:
            self.found[-1].hidden[values["name"]] = values.get("value", "")
