"""An OpenID Connect provider on loopback: discovery, sign-in, tokens and keys, and its faults.

It checks what a provider checks: the client and its secret, where the browser is sent back to,
PKCE, and that a code is spent once. What it says can be forged by a test (`claims`, `sign`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "sortition", "s3cret: of &client, \u20ac"
_POST = "client_secret_post"


def a_key() -> rsa.RSAPrivateKey:
    """Return a new signing key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Provider:
    """One provider with one person, who signs in as soon as their browser comes.

    claims: put over those of the token.  sign: instead of by its own key.  broken: path -> status.
    document: put over the discovery document.  by_form: the client must show its secret in the
    form, and in no header.  listed: keys before its own.
    """

    person: dict[str, Any]
    callback: str
    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    by_form: bool = False
    listed: list[Any] = field(default_factory=list)
    kid: str = "first"
    key: rsa.RSAPrivateKey = field(default_factory=a_key)
    sign: Callable[[Provider, dict[str, Any]], str] | None = None
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def discovery(self) -> dict[str, Any]:
        """Return what it says of itself."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **({"token_endpoint_auth_methods_supported": [_POST]} if self.by_form else {}),
        } | self.document

    def keys(self) -> dict[str, Any]:
        """Return its public keys."""
        told = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [*self.listed, told | {"kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def authorize(self, there: str) -> str:
        """Sign the person in; return where their browser is sent back to."""
        asked = dict(parse_qsl(urlsplit(there).query))
        assert there.startswith(f"{self.issuer}/authorize?")
        assert asked["client_id"] == CLIENT
        assert asked["redirect_uri"] == self.callback
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{self.callback}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Answer the client that spends a code."""
        if not self._knows(form, authorization):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        known = asked is not None and asked["redirect_uri"] == form.get("redirect_uri")
        if asked is None or not known or _s256(form["code_verifier"]) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.person,
            **self.claims,
        }
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self.signed(claims)}

    def _knows(self, form: dict[str, str], authorization: str) -> bool:
        in_form = [form.get(name) for name in ("client_id", "client_secret")]
        if self.by_form:
            return not authorization and in_form == [CLIENT, SECRET]
        return authorization == _basic() and in_form == [None, None]

    def signed(self, claims: dict[str, Any]) -> str:
        """Return a token, forged if a test says so."""
        told = {name: value for name, value in claims.items() if value is not None}
        if self.sign is not None:
            return self.sign(self, told)
        # Not `jwt.encode`, which looks at what it is given.
        payload = json.dumps(told).encode()
        return jwt.PyJWS().encode(payload, self.key, "RS256", headers={"kid": self.kid})

    @contextmanager
    def served(self) -> Iterator[Provider]:
        """Serve it at a free port of loopback."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _basic() -> str:
    told = f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}"
    return f"Basic {base64.b64encode(told.encode()).decode()}"


def _s256(verifier: str) -> str:
    told = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(told).rstrip(b"=").decode()


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {
                "/.well-known/openid-configuration": provider.discovery,
                "/keys": provider.keys,
            }
            self._answer(200, pages[self.path]())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = dict(parse_qsl(body))
            self._answer(*provider.token(form, self.headers.get("Authorization", "")))

        def _answer(self, status: int, told: dict[str, Any]) -> None:
            provider.asked.append(self.path)
            body = json.dumps(told).encode()
            self.send_response(provider.broken.get(self.path, status))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    return Handler
