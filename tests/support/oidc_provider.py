# SPDX-License-Identifier: Apache-2.0
"""A small OpenID Connect provider on the loopback for tests: who comes to it is logged in there, and led back.

The code flow with PKCE, ES256; nobody is asked for a password: ``claims`` say who it is."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from volact.wire.serve import free_port

CODE = "the-code"


class OidcProvider:
    def __init__(self, port: int, claims: dict[str, object]) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.claims = claims
        self.key = ECKey.generate_key("P-256", {"kid": "one"})
        self.asked: dict[str, str] = {}

    def authorize(self, query: str) -> str:
        """Back to the site that asked, with a code."""
        self.asked = _fields(query)
        return f"{self.asked['redirect_uri']}?{urlencode({'code': CODE, 'state': self.asked['state']})}"

    def answer(self, path: str, body: str) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return {"issuer": self.issuer, **{name: self.issuer + end for name, end in ends.items()}}
        if path == "/keys":
            return dict(KeySet([self.key]).as_dict(private=False))
        sent = _fields(body)
        hashed = base64.urlsafe_b64encode(hashlib.sha256(sent["code_verifier"].encode()).digest()).rstrip(b"=")
        if sent["code"] != CODE or hashed.decode() != self.asked["code_challenge"]:
            return {"error": "invalid_grant"}
        return {"access_token": "x", "token_type": "Bearer", "id_token": self._token()}

    def _token(self) -> str:
        now = int(time.time())
        own = {"iss": self.issuer, "aud": self.asked["client_id"], "exp": now + 300, "iat": now}
        claims = {**own, "nonce": self.asked["nonce"], **self.claims}
        return jwt.encode({"alg": "ES256", "kid": "one"}, claims, self.key, algorithms=["ES256"])


@contextmanager
def oidc_provider(**claims: object) -> Iterator[OidcProvider]:
    provider = OidcProvider(free_port(), claims)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path)
            if path.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize(path.query))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            data = json.dumps(provider.answer(path.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(provider.issuer.rpartition(":")[2])), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}
