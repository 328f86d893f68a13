"""Which header fields pass the gate: hop by hop ones do not, and nobody's word counts for who they are.

What tells a service about identity or about the way a request came is removed from what clients send, however
it is written: some servers take `X_Forwarded_For` or `X.Forwarded.For` for `X-Forwarded-For`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from proxy.http.codec import Header, Malformed, RequestHead, ResponseHead

HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110, section 7.6.1, and those that never go further."""

_IDENTITY = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"remote-user",
        b"remote-groups",
        b"remote-name",
        b"remote-email",
        b"x-remote-user",
        b"x-remote-group",
        b"x-jwt-assertion",
        b"ssl-client-cert",
        b"x-ssl-client-cert",
        b"x-client-cert",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-original-uri",
        b"x-original-host",
        b"x-original-method",
        b"x-original-for",
        b"x-original-proto",
        b"x-originating-ip",
        b"x-host",
        b"x-scheme",
        b"x-url-scheme",
        b"x-script-name",
        b"x-forwarded",
        b"x-envoy-external-address",
        b"x-envoy-original-path",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"client-ip",
        b"forwarded-for",
        b"forwarded-proto",
        b"front-end-https",
        b"base-url",
        b"script-name",
        b"path-info",
        b"auth-user",
        b"auth-type",
        b"sm-user",
        b"x-userinfo",
        b"x-vouch-user",
        b"x-token-subject",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)
"""Also those by which some servers take another method or place than the request's own."""
_IDENTITY_PREFIXES = (
    b"portcullis-",
    b"x-portcullis-",
    b"x-forwarded-",
    b"x-webauth-",
    b"x-auth-request-",
    b"x-authenticated-",
    b"x-authentik-",
    b"x-goog-iap-",
    b"x-goog-authenticated-",
    b"x-ms-client-principal",
    b"x-amzn-oidc-",
    b"x-amzn-mtls-",
    b"x-client-cert-",
    b"x-ssl-client-",
    b"ssl-client-",
    b"x-consumer-",
    b"x-credential-",
    b"x-arr-",
    b"x-vouch-idp-",
    b"tailscale-",
    b"oidc-claim-",
    b"oidc-access-",
    b"shib-",
    b"cf-access-",
    b"x-pomerium-",
    b"x-remote-extra-",
    b"impersonate-",
)

OUR_COOKIES = (b"__Host-portcullis-gate", b"__Host-portcullis-way")
"""The session of a browser at one service, and the one of a login on its way."""

_ANSWER_DROPS = HOP | {b"alt-svc", b"content-length", b"portcullis"}
"""`alt-svc` would show a browser a way round; by `portcullis` the gate marks its own answers."""
_OUR_NAME = re.compile(rb"__host-portcullis-", re.I)
_DOMAIN = re.compile(rb"[ \t]*;[ \t]*domain[ \t]*(?:=[^;]*)?(?=;|$)", re.I)
_NO_TRAILER = frozenset(
    {b"host", b"authorization", b"cookie", b"set-cookie", b"location", b"cache-control", b"expect", b"age"}
)


@lru_cache(maxsize=2048)
def plain(name: bytes) -> bytes:
    """A name as the most generous server reads it: CGI's way makes one of every sign (RFC 3875, 4.1.18)."""
    return re.sub(rb"[^a-z0-9]", b"-", name)


@lru_cache(maxsize=2048)
def tells_identity(name: bytes) -> bool:
    """Whether a field by this name says who somebody is, or changes what a request means."""
    read = plain(name)
    return read in _IDENTITY or read.startswith(_IDENTITY_PREFIXES)


def for_target(head: RequestHead, removed: Collection[bytes], *, drop_authorization: bool) -> list[Header]:
    """The fields of a request that go on, without its host and framing. `removed` are further names (lower
    case, with dashes) that the gate itself fills in or keeps from clients. Raises Malformed.
    """
    _check_named(head)
    passed: list[Header] = []
    for name, value in head.headers:
        if name in HOP or name in (b"host", b"content-length"):
            continue
        if tells_identity(name) or plain(name) in removed:
            continue
        if name == b"authorization" and drop_authorization:
            continue
        if name == b"cookie":
            value = without_our_cookies(value)
            if not value:
                continue
        passed.append((name, value))
    return passed


def _check_named(head: RequestHead) -> None:
    """Connection may not name a field that is there and not the connection's own: rules would have seen, and
    people have agreed to, what would then not go on. Raises Malformed.
    """
    named = head.tokens(b"connection")
    if named and any(name in named and name not in HOP for name, _ in head.headers):
        raise Malformed("Connection names a field that is not the connection's")


def without_our_cookies(value: bytes) -> bytes:
    """A Cookie field without what a browser shows the gate alone."""
    if b"__Host-portcullis" not in value:
        return value
    kept = [part for part in value.split(b";") if part.partition(b"=")[0].strip() not in OUR_COOKIES]
    return b";".join(kept).strip()


def our_cookie(head: RequestHead, name: bytes) -> bytes | None:
    """The value of a cookie of ours; None where there is none. Raises Malformed where there are two: then
    somebody else has set one of them.
    """
    found = None
    for key, value in head.headers:
        if key != b"cookie" or name not in value:
            continue
        for part in value.split(b";"):
            key_, _, said = part.strip().partition(b"=")
            if key_ == name:
                if found is not None:
                    raise Malformed("a cookie of the gate's came twice")
                found = said
    return found


def for_client(head: ResponseHead) -> list[Header]:
    """The fields of an answer that go on, without its framing. A service sets cookies for its own host alone,
    and none by the gate's names.
    """
    named = [name for name in head.tokens(b"connection") if name not in (b"content-type", b"set-cookie")]
    passed = []
    for name, value in head.headers:
        if name in _ANSWER_DROPS or name in named:
            continue
        if name == b"set-cookie":
            # The value, too: of a cookie without a name browsers send the value alone.
            if _OUR_NAME.search(value.partition(b";")[0]):
                continue
            value = _DOMAIN.sub(b"", value)
        passed.append((name, value))
    return passed


def trailers(found: Sequence[Header], removed: Collection[bytes] = ()) -> list[Header]:
    """The trailer fields that go on."""
    return [
        (name, value)
        for name, value in found
        if name not in HOP
        and name not in _NO_TRAILER
        and not name.startswith(b"content-")
        and not tells_identity(name)
        and plain(name) not in removed
    ]


def inside(location: bytes, authority: bytes) -> bytes:
    """A Location that names the target's own address as a path of this host: its address is nobody's."""
    for scheme in (b"http://", b"https://"):
        if location[: len(scheme)].lower() == scheme:
            rest = location[len(scheme) :]
            host = rest.partition(b"/")[0].partition(b"?")[0]
            if host.lower() == authority.lower():
                path = rest[len(host) :]
                return path if path.startswith(b"/") else b"/" + path
    return location
