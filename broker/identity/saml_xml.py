"""From the bytes of a SAML response to the one assertion that its identity provider has signed.

What is read further on is only ever the signed copy that the verifier gives back, never the document that
came: so a signature that fits one element cannot vouch for another (signature wrapping, “On Breaking SAML”,
Somorovsky et al. 2012). Beside that the document must be of the one plain form that honest providers send: no
DTD, comments or processing instructions, each ID once, exactly one assertion, signatures only where they
belong, each over the element that it is in. Sources: SAML core 2.0 section 5.4, XML Signature Best Practices
(W3C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from broker.identity.answer import LoginError

P = "{urn:oasis:names:tc:SAML:2.0:protocol}"
A = "{urn:oasis:names:tc:SAML:2.0:assertion}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
MOST_BYTES = 256 * 1024

_TRANSFORMS = {
    "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
}
_METHODS = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
    }
)
_DIGESTS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
_CONFIG = SignatureConfiguration(
    require_x509=True,
    location="./",
    expect_references=1,
    signature_methods=_METHODS,
    digest_algorithms=_DIGESTS,
)

Element = Any
"""lxml's element, which has no types of its own."""


@dataclass(frozen=True, slots=True)
class Signed:
    """`response` is the signed copy, or None where only the assertion in it is signed. `assertion` is signed,
    by itself or in the response; None where it is still to be decrypted, in `encrypted`.
    """

    outside: Element
    response: Element | None
    assertion: Element | None
    encrypted: Element | None = None


def parse(data: bytes) -> Element:
    """The root of a document of the plain form. Raises LoginError."""
    if len(data) > MOST_BYTES:
        raise refused("it is too long")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise refused("it is not XML") from None
    tree = root.getroottree()
    if tree.docinfo.doctype or tree.docinfo.internalDTD is not None:
        raise refused("it has a DTD")
    seen: set[str] = set()
    for node in tree.iter():
        if not isinstance(node.tag, str):
            raise refused("it has comments or processing instructions")
        for name in ("ID", "Id", "id"):
            mark = node.get(name)
            if mark is not None and mark in seen:
                raise refused("two of its elements have one ID")
            seen.update([mark] if mark is not None else [])
    if root.getprevious() is not None or root.getnext() is not None:
        raise refused("it has comments or processing instructions")
    return root


def signed(root: Element, certificates: Sequence[str]) -> Signed:
    """What of a response the provider has signed. Raises LoginError where that is not exactly one
    assertion.
    """
    if root.tag != P + "Response":
        raise refused("it is no SAML response")
    plain = list(root.iter(A + "Assertion"))
    hidden = list(root.iter(A + "EncryptedAssertion"))
    if len(plain) + len(hidden) != 1 or (plain + hidden)[0].getparent() is not root:
        raise refused("it does not hold exactly one assertion")
    for signature in root.iter(DS + "Signature"):
        if signature.getparent() is not root and signature.getparent() not in plain:
            raise refused("it has a signature where none belongs")
    response = verified(root, certificates) if root.find(DS + "Signature") is not None else None
    if hidden:
        whole = response if response is not None else root
        return Signed(root, response, None, whole.find(A + "EncryptedAssertion"))
    own = plain[0].find(DS + "Signature") is not None
    if own:
        assertion = verified(plain[0], certificates)
    elif response is not None:
        assertion = response.find(A + "Assertion")
    else:
        raise refused("nobody has signed it")
    return Signed(root, response, assertion)


def signed_assertion(root: Element, certificates: Sequence[str], *, vouched: bool) -> Element:
    """An assertion that was decrypted, signed by itself or (`vouched`) by the response around it."""
    if root.tag != A + "Assertion" or next(root.iter(A + "EncryptedAssertion"), None) is not None:
        raise refused("what is encrypted in it is no assertion")
    signatures = list(root.iter(DS + "Signature"))
    if any(signature.getparent() is not root for signature in signatures):
        raise refused("it has a signature where none belongs")
    if signatures:
        return verified(root, certificates)
    if not vouched:
        raise refused("nobody has signed it")
    return root


def verified(element: Element, certificates: Sequence[str]) -> Element:
    """The signed copy of an element whose signature is in it and over it, by one of these certificates."""
    signatures = element.findall(DS + "Signature")
    if len(signatures) != 1:
        raise refused("an element has several signatures")
    _over_its_parent(signatures[0], element)
    data = etree.tostring(element, with_tail=False)
    for certificate in certificates:
        copy = _signed_copy(data, certificate)
        if copy is None:
            continue
        if copy.tag != element.tag or copy.get("ID") != element.get("ID"):
            raise refused("the signature is over something else")
        return copy
    raise refused("it is not signed by the identity provider's key")


def _signed_copy(data: bytes, certificate: str) -> Element | None:
    """What this certificate's key has signed of it; None for nothing."""
    try:
        found = XMLVerifier().verify(data, x509_cert=certificate, expect_config=_CONFIG, id_attribute="ID")
    except Exception:  # whatever of it breaks the verifier: then it is not verified
        return None
    return None if isinstance(found, list) else found.signed_xml


def _over_its_parent(signature: Element, element: Element) -> None:
    """A signature of the one form that SAML allows: of the element that it is in, and of nothing else."""
    references = list(signature.iter(DS + "Reference"))
    if len(references) != 1 or not element.get("ID"):
        raise refused("the signature is over several things")
    if references[0].get("URI") != "#" + element.get("ID"):
        raise refused("the signature is over something else")
    if signature.find(DS + "Object") is not None:
        raise refused("the signature holds something")
    transforms = [one.get("Algorithm") for one in signature.iter(DS + "Transform")]
    if not set(transforms) <= _TRANSFORMS:
        raise refused("the signature is over a part of the element")


def refused(why: str) -> LoginError:
    return LoginError(f"The identity provider's answer is not good: {why}.")
