"""OpenID Connect (Core 1.0): the authorization code flow with PKCE, by our one way out.

    Client          what the provider knows this server by
    OidcProvider    `ports.IdentityProvider`

What a client asks is written by Authlib (RFC 6749, RFC 7636), and sent by us. The id token is read
by PyJWT: signed by a key of the provider's own list, by one of two algorithms whatever the token
says, for this client, of this sign-in (nonce), and not expired.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

import jwt
from authlib.oauth2 import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from flagserver.domain.people import Outsider, Source, claimed
from flagserver.ports import Clock, Egress, EgressError, Introduction, NotIntroduced

ALGORITHMS = ("RS256", "ES256")
KEY_TYPES = ("RSA", "EC")
"""Public ones only: a shared secret among the provider's keys would let anybody sign."""

LEEWAY_SECONDS = 30
KEEP_SECONDS = 3600.0
"""How long the provider's addresses and keys are believed without asking again."""
ASK_AGAIN_SECONDS = 60.0
"""A key that is not known is asked for at most so often: tokens come from outside."""
SCOPE = "openid email profile"
MOST_GROUPS = 1000
LONGEST_CODE = 4096


@dataclass(frozen=True, slots=True)
class Client:
    """What the provider knows this server by.

    issuer: exactly as its tokens say it.  domains: of the e-mail addresses that are let in; none:
    all.  groups_claim: where its tokens name somebody's groups.
    """

    issuer: str
    id: str
    secret: str = field(repr=False)
    domains: tuple[str, ...] = ()
    groups_claim: str = "groups"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the provider said of itself, at a time of the monotonic clock. keys: kid -> key."""

    document: Mapping[str, Any]
    keys: Mapping[str, jwt.PyJWK]
    at: float


class OidcProvider:
    """`ports.IdentityProvider`. Every call goes by the guarded way out, which has the list of hosts
    that may be called: a discovery document cannot add one."""

    def __init__(self, egress: Egress, clock: Clock, client: Client) -> None:
        self._egress = egress
        self._clock = clock
        self._client = client
        self._known: _Known | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Its host."""
        return urlsplit(self._client.issuer).hostname or self._client.issuer

    def begin(self, told: Introduction) -> str:
        """Return where the browser is sent. Raises NotIntroduced."""
        there: str = prepare_grant_uri(
            self._address("authorization_endpoint"),
            *(self._client.id, "code", told.callback, SCOPE, told.state),
            nonce=told.nonce,
            code_challenge=create_s256_code_challenge(told.verifier),
            code_challenge_method="S256",
        )
        return there

    def finish(self, told: Introduction, code: str) -> Outsider:
        """Spend the code and return who it is. Raises NotIntroduced."""
        if not 0 < len(code) <= LONGEST_CODE:
            raise NotIntroduced(f"{self.name} sent no code.")
        return self._outsider(self._claims(self._id_token(told, code), told.nonce))

    # What it says of itself

    def _provider(self, *, newer_than: float = KEEP_SECONDS) -> _Known:
        with self._lock:
            now = self._clock.monotonic()
            if self._known is None or now - self._known.at > newer_than:
                self._known = self._discovered(now)
            return self._known

    def _discovered(self, now: float) -> _Known:
        issuer = self._client.issuer
        document = self._asked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise NotIntroduced(f"{self.name} calls itself otherwise than SORTITION_OIDC_ISSUER.")
        return _Known(document, _keys(self._asked(str(document.get("jwks_uri", "")))), now)

    def _address(self, name: str) -> str:
        """Return one of its addresses, which is as safe as that of the provider itself."""
        found = self._provider().document.get(name)
        safe = ("https", urlsplit(self._client.issuer).scheme)
        if not isinstance(found, str) or urlsplit(found).scheme not in safe:
            raise NotIntroduced(f"{self.name} names no {name} that can be used.")
        return found

    def _key(self, kid: object) -> jwt.PyJWK:
        for age in (KEEP_SECONDS, ASK_AGAIN_SECONDS):
            key = self._provider(newer_than=age).keys.get(str(kid))
            if key is not None:
                return key
        raise NotIntroduced(f"The token is signed by a key that {self.name} does not name.")

    # The code and the token

    def _id_token(self, told: Introduction, code: str) -> str:
        there, headers, body = self._auth().prepare(
            *("POST", self._address("token_endpoint")),
            {"Content-Type": "application/x-www-form-urlencoded"},
            prepare_token_request(
                *("authorization_code", "", told.callback), code=code, code_verifier=told.verifier
            ),
        )
        token = self._asked(there, headers=headers, body=body.encode()).get("id_token")
        if not isinstance(token, str):
            raise NotIntroduced(f"{self.name} did not say who signed in.")
        return token

    def _auth(self) -> ClientAuth:
        """Return how our secret is shown: OpenID Connect Discovery 1.0, 3, and in a header else."""
        id, secret = self._client.id, self._client.secret
        ways = self._provider().document.get("token_endpoint_auth_methods_supported")
        if isinstance(ways, list) and "client_secret_basic" not in ways:
            return ClientAuth(id, secret, "client_secret_post")
        # RFC 6749, 2.3.1: both are written as in a form before they are joined, which the library
        # leaves to us.
        return ClientAuth(quote_plus(id), quote_plus(secret), "client_secret_basic")

    def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                *(token, key, list(ALGORITHMS)),
                audience=self._client.id,
                issuer=self._client.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub", "nonce"]},
            )
        except (jwt.PyJWTError, RecursionError) as error:
            # The library's words name the claim, never its value.
            why = type(error).__name__.removesuffix("Error")
            raise NotIntroduced(f"The token of {self.name} is not believed ({why}).") from None
        told = str(claims["nonce"]).encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(told, nonce.encode()):
            raise NotIntroduced(f"The token of {self.name} belongs to another sign-in.")
        if self._for_others(claims):
            raise NotIntroduced(f"The token of {self.name} was made for another party.")
        if not claimed(claims["sub"]):
            raise NotIntroduced(f"The token of {self.name} names nobody.")
        return claims

    def _for_others(self, claims: Mapping[str, Any]) -> bool:
        """OpenID Connect Core 1.0, 3.1.3.7: of several audiences, `azp` says which one asked."""
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        party = claims.get("azp", None if several else self._client.id)
        return bool(party != self._client.id)

    def _outsider(self, claims: Mapping[str, Any]) -> Outsider:
        email = claimed(claims.get("email"))
        self._check_domain(email, verified=claims.get("email_verified") is True)
        login = email or claimed(claims.get("preferred_username")) or claims["sub"]
        groups = claims.get(self._client.groups_claim)
        told = [groups] if isinstance(groups, str) else groups
        known = told[:MOST_GROUPS] if isinstance(told, list) else []
        return Outsider(
            source=Source.OIDC,
            subject=f"{self._client.issuer} {claims['sub']}",
            name=(claimed(claims.get("name")) or login)[:100],
            login=login[:200],
            groups=frozenset(filter(None, map(claimed, known))),
        )

    def _check_domain(self, email: str, *, verified: bool) -> None:
        domains = self._client.domains
        if domains and not verified:
            raise NotIntroduced(f"{self.name} does not say that your e-mail address is yours.")
        if domains and email.rpartition("@")[2].lower() not in domains:
            raise NotIntroduced("Addresses of your e-mail domain are not let in here.")

    def _asked(
        self, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Mapping[str, Any]:
        """Return the object that an address answers with. Raises NotIntroduced."""
        told = {"Accept": "application/json", **(headers or {})}
        method = "GET" if body is None else "POST"
        try:
            answer = self._egress.send(method, url, headers=told, body=body or b"")
        except EgressError as error:
            raise NotIntroduced(f"The identity provider was not reached: {error}.") from None
        if answer.status != 200:
            raise NotIntroduced(f"{self.name} refused ({answer.status}). Try again.")
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise NotIntroduced(f"{self.name} answered with something else than JSON.")
        return found


def _keys(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """Return kid -> public key for signing. What cannot be read is left out."""
    listed = document.get("keys")
    found = {}
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict) or each.get("kty") not in KEY_TYPES:
            continue
        if each.get("alg") not in (None, *ALGORITHMS):
            continue
        if each.get("use", "sig") == "sig" and isinstance(each.get("kid"), str):
            try:
                found[each["kid"]] = jwt.PyJWK(each)
            except jwt.PyJWTError:
                continue
    return found
