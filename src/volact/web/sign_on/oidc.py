# SPDX-License-Identifier: Apache-2.0
"""Logins by an OpenID Connect provider: the authorization code flow with PKCE (RFC 7636), ``state`` and ``nonce``.

authlib speaks the flow, joserfc verifies the ID token against the provider's keys.  What has to be remembered between
leaving for the provider and coming back is in a cookie that only this site can read (AES-256-GCM under its key).
Spec: OpenID Connect Core 1.0 §3.1; docs/guide/single-sign-on.md.
"""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse, Response

from volact.core.errors import TransportError
from volact.web.access import credentials
from volact.web.access.accounts import Identity
from volact.web.access.records import OIDC
from volact.web.access.roles import ANYBODY
from volact.web.errors import AccessError
from volact.web.pages.visit import Page, Visit, local_path
from volact.web.sign_on.settings import LoginPartMissingError, RoleMap, Settings, identity

TIMEOUT = 10.0
LEEWAY = 60  # seconds that clocks may differ
FLOW_SECONDS = 10 * 60
RETURN: Final = "/login/single-sign-on/return"
ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]  # never none, never a shared secret
_FLOW: Final = "single sign-on"


class ProviderError(TransportError):
    code = "login-provider-unreachable"
    fmt = "the login provider {issuer} cannot be asked: {why}"
    remedy = "check its address and the client's registration there; local accounts still log in"


class ProviderAnswerError(AccessError):
    code = "login-provider-refused"
    fmt = "the login at {issuer} cannot be used: {why}"
    remedy = "start the login again from this site's login page; if it persists, ask who runs the provider"


@dataclass(frozen=True, slots=True)
class Provider:
    """``groups_claim`` is looked for in the ID token.  ``acr``: the authentication context that is asked for and must
    come back (OpenID Connect Core §2, §3.1.2.1): how a second factor of the provider is insisted on."""

    issuer: str
    client_id: str
    roles: RoleMap
    label: str
    name_claim: str
    groups_claim: str
    scope: str
    client_secret: str = field(repr=False)
    acr: str = ""
    name: str = OIDC

    @classmethod
    def of(cls, settings: Settings) -> "Provider":
        issuer = settings.text("issuer")
        parts = urlsplit(issuer)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise settings.wrong("issuer does not begin with https://")
        made = cls(
            issuer.rstrip("/"), settings.text("client_id"), settings.roles(),
            label=settings.text("label", "single sign-on"),
            name_claim=settings.text("name_claim", "preferred_username"),
            groups_claim=settings.text("groups_claim", "groups"),
            scope=settings.text("scope", "openid profile"),
            client_secret=settings.secret("client_secret"), acr=settings.text("acr", ""),
        )  # fmt: skip
        settings.end()
        return made

    def leave(self, visit: Visit) -> Response:
        """To the provider, with what has to come back."""
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        address, _ = self._client(visit).create_authorization_url(
            self._facts()["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier,
            **({"acr_values": self.acr} if self.acr else {}),
        )  # fmt: skip
        flow = {
            "state": state, "nonce": nonce, "verifier": verifier, "ends": visit.now + FLOW_SECONDS,
            "next": local_path(visit.query["next"]),
        }  # fmt: skip
        response = RedirectResponse(address, 303)
        _keep(visit, response, flow)
        return response

    def come_back(self, visit: Visit) -> tuple[Identity, str]:
        """Who it is, and where to go.  Raises :class:`ProviderAnswerError`, :class:`ProviderError`."""
        flow = _kept(visit)
        if flow is None or flow["ends"] < visit.now or not _same(flow["state"], visit.query["state"]):
            raise self._refused("it was not begun here, or too long ago")
        if visit.query["error"] or not visit.query["code"]:
            raise self._refused(visit.query["error"][:60] or "no code came back")
        claims = self._claims(self._token(visit, flow["verifier"]), flow["nonce"], visit.now)
        name, groups = claims.get(self.name_claim), claims.get(self.groups_claim, [])
        if not isinstance(name, str) or not isinstance(groups, list):
            raise self._refused(f"the ID token has no claim {self.name_claim}")
        full_name = claims.get("name", "")
        found = identity(name, full_name if isinstance(full_name, str) else "", map(str, groups))
        return found, flow["next"]

    # ---- private

    def _client(self, visit: Visit) -> Any:
        try:
            from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]
        except ImportError:
            raise LoginPartMissingError(package="authlib httpx") from None
        back = f"{visit.request.url.scheme}://{visit.request.headers['host']}{RETURN}"
        return OAuth2Client(
            self.client_id, self.client_secret or None, scope=self.scope, redirect_uri=back,
            code_challenge_method="S256", timeout=TIMEOUT,
            token_endpoint_auth_method="client_secret_basic" if self.client_secret else "none",
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        """The provider's own description; it must speak of the issuer that was asked for."""
        facts = self._get(f"{self.issuer}/.well-known/openid-configuration")
        if str(facts.get("issuer", "")).rstrip("/") != self.issuer:
            raise self._refused("it describes another issuer")
        return facts

    def _get(self, url: str) -> dict[str, Any]:
        import httpx

        try:
            answer = httpx.get(url, timeout=TIMEOUT, follow_redirects=False)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise ProviderError(issuer=self.issuer, why=type(exc).__name__) from None
        if not isinstance(found, dict):
            raise ProviderError(issuer=self.issuer, why="its answer is no JSON object")
        return found

    def _token(self, visit: Visit, verifier: str) -> str:
        import httpx
        from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]

        try:
            with self._client(visit) as client:
                answer = client.fetch_token(
                    self._facts()["token_endpoint"], code=visit.query["code"], code_verifier=verifier
                )
        except AuthlibBaseError as exc:
            raise self._refused(str(exc)[:200]) from None
        except (httpx.HTTPError, ValueError) as exc:
            raise ProviderError(issuer=self.issuer, why=type(exc).__name__) from None
        return str(answer.get("id_token", ""))

    def _claims(self, token: str, nonce: str, now: int) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        try:
            keys = KeySet.import_key_set(self._get(self._facts()["jwks_uri"]))  # type: ignore[arg-type]
            claims = dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)
            jwt.JWTClaimsRegistry(
                now=lambda: now, leeway=LEEWAY,
                iss={"essential": True, "value": str(self._facts()["issuer"])},
                aud={"essential": True, "value": self.client_id},
                exp={"essential": True}, iat={"essential": True}, nonce={"essential": True, "value": nonce},
            ).validate(claims)  # fmt: skip
        except (JoseError, ValueError, KeyError, TypeError) as exc:
            raise self._refused(f"its ID token does not fit ({type(exc).__name__})") from None
        parties = claims["aud"]
        if isinstance(parties, list) and len(parties) > 1 and claims.get("azp") != self.client_id:
            raise self._refused("its ID token is for somebody else")
        if self.acr and claims.get("acr") != self.acr:
            raise self._refused(f"its ID token does not say that the login was by {self.acr}")
        return claims

    def _refused(self, why: str) -> ProviderAnswerError:
        return ProviderAnswerError(issuer=self.issuer, why=why)


def leave(visit: Visit) -> Response:
    provider: Provider = visit.found(visit.site.single_sign_on)
    return provider.leave(visit)


def come_back(visit: Visit) -> Response:
    provider: Provider = visit.found(visit.site.single_sign_on)
    found, onwards = provider.come_back(visit)
    role = provider.roles.role(found.groups)
    visit.login = visit.site.accounts.vouched(provider.name, found, role, visit.caller)
    visit.session = visit.login.session
    response = visit.redirect(onwards)
    response.delete_cookie(_cookie(visit), path="/login", secure=visit.request.url.scheme == "https")
    return response


PAGES: Final = [
    Page("/login/single-sign-on", leave, ANYBODY, "Log in"),
    Page(RETURN, come_back, ANYBODY, "Log in"),
]


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode("utf-8", "surrogatepass"))


def _cookie(visit: Visit) -> str:
    return f"volact-{visit.site.name}-flow"


def _keep(visit: Visit, response: Response, flow: dict[str, Any]) -> None:
    key = visit.site.accounts.key
    assert key is not None
    sealed = credentials.encrypt(key, _FLOW, json.dumps(flow)).hex()
    secure = visit.request.url.scheme == "https"
    response.set_cookie(
        _cookie(visit), sealed, FLOW_SECONDS, path="/login", secure=secure, httponly=True, samesite="lax"
    )


def _kept(visit: Visit) -> dict[str, Any] | None:
    key, sealed = visit.site.accounts.key, visit.request.cookies.get(_cookie(visit), "")
    assert key is not None
    try:
        text = credentials.decrypt(key, _FLOW, bytes.fromhex(sealed)) if sealed else None
    except ValueError:
        text = None
    return dict(json.loads(text)) if text else None
