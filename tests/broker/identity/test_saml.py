"""SAML answers: what an honest provider says is taken; each known attack is refused, by name."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod, XMLSigner

from broker.config import GroupSource, SamlSettings, SecretRef
from broker.identity.answer import Identity, LoginError
from broker.identity.kept import Keep
from broker.identity.saml import SamlLogin
from tests import tables
from tests.saml_idp import EMAIL, ENTITY, GROUPS, NS, SamlIdp, Saying, asked, posted

BROKER = "https://access.example.com"
ACS = f"{BROKER}/auth/saml/corp/acs"
US = f"{BROKER}/auth/saml/corp/metadata"
Log_in = Callable[[str], Awaitable[Identity]]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return tables.sqlite(tmp_path / "portcullis.db")


@pytest.fixture(scope="module")
def idp() -> SamlIdp:
    return SamlIdp()


@pytest.fixture(scope="module")
def our_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def settings(idp: SamlIdp, our_key: rsa.RSAPrivateKey, tmp_path: Path) -> SamlSettings:
    pem = our_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "saml.key").write_bytes(pem)
    return SamlSettings(
        name="corp",
        title="Corp",
        groups=GroupSource(GROUPS, {"prod-engineers": "engineers"}),
        entity=ENTITY,
        sign_in="https://idp.example.com/sso",
        certificates=(idp.certificate,),
        email=EMAIL,
        key=SecretRef("file:saml.key", tmp_path),
    )


class Login:
    """A login under way: `saying` is what an honest answer to it would say."""

    def __init__(self, saml: SamlLogin, clock: Any, begun: str) -> None:
        self.saml = saml
        self.begun = begun
        self.saying = Saying(clock.now(), begun, ACS, US)

    async def with_answer(self, xml: str) -> Identity:
        secret, _ = await self.saml.accept(posted(xml))
        return await self.saml.finish(self.begun, {"answer": secret})


@pytest.fixture
def saml(settings: SamlSettings, keep: Keep, clock: Any, chance: Any) -> SamlLogin:
    return SamlLogin(settings, BROKER, keep, clock, chance)


@pytest.fixture
async def login(saml: SamlLogin, clock: Any) -> Login:
    sent = await saml.begin(ACS)
    return Login(saml, clock, sent.begun)


# ------------------------------------------------------------- what is taken


async def test_the_request_says_where_to_answer_and_who_asks(saml: SamlLogin) -> None:
    sent = await saml.begin(ACS)
    assert sent.address.startswith("https://idp.example.com/sso?SAMLRequest=")
    assert asked(sent.address) == (sent.begun, ACS)


@pytest.mark.parametrize("what", ["assertion", "response", "both"])
async def test_a_signed_assertion_a_signed_response_and_both_are_taken(
    login: Login, idp: SamlIdp, what: str
) -> None:
    it = login.saying
    assertion = idp.assertion(it)
    if what in ("assertion", "both"):
        assertion = idp.sign(assertion)
    response = idp.response(it, assertion)
    identity = await login.with_answer(idp.sign(response) if what != "assertion" else response)
    assert identity == Identity(
        ENTITY, "00u1ada", "ada@example.com", "ada@example.com", ("prod-engineers",), "_session1"
    )


@pytest.mark.parametrize(
    ("method", "inner", "outer"),
    [("aes256-gcm", True, False), ("aes256-gcm", False, True), ("aes256-cbc", True, True)],
)
async def test_an_encrypted_assertion_is_opened(
    login: Login, idp: SamlIdp, our_key: rsa.RSAPrivateKey, method: str, inner: bool, outer: bool
) -> None:
    it = login.saying
    assertion = idp.sign(idp.assertion(it)) if inner else idp.assertion(it)
    response = idp.response(it, idp.encrypt(assertion, our_key.public_key(), method))
    identity = await login.with_answer(idp.sign(response) if outer else response)
    assert identity.subject == "00u1ada"


async def test_a_provider_may_be_changing_its_certificate(
    login: Login, idp: SamlIdp, settings: SamlSettings, keep: Keep, clock: Any, chance: Any
) -> None:
    both = replace(settings, certificates=(SamlIdp().certificate, idp.certificate))
    login.saml = SamlLogin(both, BROKER, keep, clock, chance)
    assert (await login.with_answer(honest(idp, login.saying))).subject == "00u1ada"


async def test_clocks_may_differ_by_a_minute_and_not_by_more(login: Login, idp: SamlIdp) -> None:
    ahead = timedelta(seconds=59)
    assert await login.with_answer(honest(idp, replace(login.saying, not_before=ahead)))
    late = replace(login.saying, not_before=timedelta(seconds=61), assertion_id="_2")
    with pytest.raises(LoginError, match="not good yet"):
        await login.with_answer(honest(idp, late))


async def test_our_metadata_says_where_to_answer_and_what_to_encrypt_for(
    saml: SamlLogin, our_key: rsa.RSAPrivateKey
) -> None:
    from cryptography import x509

    root = etree.fromstring(saml.metadata())
    md = {"md": "urn:oasis:names:tc:SAML:2.0:metadata", **NS}
    assert root.get("entityID") == US
    role = root.find("md:SPSSODescriptor", md)
    assert role.get("WantAssertionsSigned") == "true"
    assert role.find("md:AssertionConsumerService", md).get("Location") == ACS
    der = base64.b64decode(role.find(".//ds:X509Certificate", md).text)
    assert x509.load_der_x509_certificate(der).public_key() == our_key.public_key()
    assert saml.metadata() == saml.metadata()


# ------------------------------------------- what does not fit, and what is old


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"audience": "https://other.example.com"}, "another application"),
        ({"destination": "https://evil.example.com/acs"}, "another place"),
        ({"recipient": "https://evil.example.com/acs"}, "not for this place"),
        ({"issuer": "https://evil.example.com"}, "somebody else"),
        ({"not_before": timedelta(minutes=2)}, "not good yet"),
        ({"not_after": timedelta(minutes=-2)}, "no longer"),
        ({"status": "urn:oasis:names:tc:SAML:2.0:status:Responder"}, "Responder"),
        ({"subject": ""}, "whom it is about"),
        ({"format": "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"}, "given to somebody else"),
        ({"format": "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"}, "given to somebody else"),
        ({"condition": '<x:Unless xmlns:x="urn:x"/>'}, "condition"),
        ({"request": "_another"}, "another login"),
        ({"request": ""}, "not begun here"),
    ],
    ids=str,
)
async def test_an_answer_that_does_not_fit_is_refused(
    login: Login, idp: SamlIdp, change: dict[str, Any], why: str
) -> None:
    it = replace(login.saying, **change)
    with pytest.raises(LoginError, match=why):
        await login.with_answer(idp.sign(idp.response(it, idp.sign(idp.assertion(it)))))


async def test_an_answer_is_good_once_at_all_brokers(
    login: Login, idp: SamlIdp, settings: SamlSettings, keep: Keep, clock: Any, chance: Any
) -> None:
    xml = honest(idp, login.saying)
    await login.with_answer(xml)
    with pytest.raises(LoginError, match="used before"):
        await SamlLogin(settings, BROKER, keep, clock, chance).accept(posted(xml))
    # Another envelope does not make another assertion of it.
    again = replace(login.saying, response_id="_other")
    inside = etree.tostring(etree.fromstring(xml).find("a:Assertion", NS)).decode()
    with pytest.raises(LoginError, match="used before"):
        await login.with_answer(idp.sign(idp.response(again, inside)))


async def test_what_was_verified_is_picked_up_once_and_in_time(
    login: Login, idp: SamlIdp, clock: Any
) -> None:
    secret, _ = await login.saml.accept(posted(honest(idp, login.saying)))
    await login.saml.finish(login.begun, {"answer": secret})
    with pytest.raises(LoginError, match="used before"):
        await login.saml.finish(login.begun, {"answer": secret})
    late, _ = await login.saml.accept(posted(honest(idp, replace(login.saying, assertion_id="_late"))))
    clock.advance(minutes=2)
    with pytest.raises(LoginError, match="took too long"):
        await login.saml.finish(login.begun, {"answer": late})


async def test_a_login_that_the_provider_begins_takes_a_word_of_the_policy(
    login: Login, idp: SamlIdp, settings: SamlSettings, keep: Keep, clock: Any, chance: Any
) -> None:
    xml = honest(idp, replace(login.saying, request=""))
    with pytest.raises(LoginError, match="not begun here"):
        await login.saml.accept(posted(xml))
    open_ = SamlLogin(replace(settings, idp_initiated=True), BROKER, keep, clock, chance)
    secret, asked_for = await open_.accept(posted(xml))
    assert not asked_for
    assert (await open_.unsolicited(secret)).subject == "00u1ada"
    answer, _ = await open_.accept(posted(honest(idp, replace(login.saying, assertion_id="_2"))))
    with pytest.raises(LoginError, match="not begun here"):
        await open_.unsolicited(answer)


# --------------------------------------------------- signature wrapping (XSW)


def honest(idp: SamlIdp, it: Saying) -> str:
    return idp.response(it, idp.sign(idp.assertion(it)))


class Wrapping:
    """The eight families of “On Breaking SAML” (Somorovsky et al.), as SAML Raider numbers them: the signed
    part stays in the document and its signature stays good, and an evil copy is where the reader looks.
    """

    def __init__(self, idp: SamlIdp, it: Saying) -> None:
        self.idp = idp
        self.it = it

    def _evil(self, signed: Any, mark: str) -> Any:
        """A copy that says another subject, without a signature."""
        evil = etree.fromstring(etree.tostring(signed))
        evil.set("ID", mark)
        for signature in evil.findall("ds:Signature", NS):
            evil.remove(signature)
        for name in evil.iter(f"{{{NS['a']}}}NameID"):
            name.text = "00u9grace"
        return evil

    def _signed_response(self) -> Any:
        return etree.fromstring(self.idp.sign(self.idp.response(self.it, self.idp.assertion(self.it))))

    def _signed_assertion(self) -> tuple[Any, Any]:
        root = etree.fromstring(honest(self.idp, self.it))
        return root, root.find("a:Assertion", NS)

    def xsw1(self) -> Any:
        """An evil response around; the signed one inside its signature."""
        good = self._signed_response()
        evil, signature = self._evil(good, "_evil"), good.find("ds:Signature", NS)
        good.remove(signature)
        evil.find("a:Issuer", NS).addnext(signature)
        signature.append(good)
        return evil

    def xsw2(self) -> Any:
        """The same, the signed response beside its signature (detached)."""
        good = self._signed_response()
        evil, signature = self._evil(good, "_evil"), good.find("ds:Signature", NS)
        good.remove(signature)
        evil.find("a:Issuer", NS).addnext(signature)
        signature.addprevious(good)
        return evil

    def xsw3(self) -> Any:
        """An evil assertion before the signed one."""
        root, good = self._signed_assertion()
        good.addprevious(self._evil(good, "_evil"))
        return root

    def xsw4(self) -> Any:
        """The signed assertion inside the evil one."""
        root, good = self._signed_assertion()
        evil = self._evil(good, "_evil")
        good.getparent().replace(good, evil)
        evil.append(good)
        return root

    def xsw5(self) -> Any:
        """The signed assertion changed, its signature kept; the good one at the end, without signature."""
        root, good = self._signed_assertion()
        copy = etree.fromstring(etree.tostring(good))
        copy.remove(copy.find("ds:Signature", NS))
        good.set("ID", "_evil")
        next(good.iter(f"{{{NS['a']}}}NameID")).text = "00u9grace"
        root.append(copy)
        return root

    def xsw6(self) -> Any:
        """The same, the good one inside the signature."""
        root, good = self._signed_assertion()
        copy = etree.fromstring(etree.tostring(good))
        copy.remove(copy.find("ds:Signature", NS))
        good.set("ID", "_evil")
        next(good.iter(f"{{{NS['a']}}}NameID")).text = "00u9grace"
        good.find("ds:Signature", NS).append(copy)
        return root

    def xsw7(self) -> Any:
        """An evil assertion in Extensions, before the signed one."""
        root, good = self._signed_assertion()
        extensions = etree.Element(f"{{{NS['p']}}}Extensions")
        root.find("a:Issuer", NS).addnext(extensions)
        extensions.append(self._evil(good, "_evil"))
        return root

    def xsw8(self) -> Any:
        """The good assertion in an Object of the evil one's signature."""
        root, good = self._signed_assertion()
        copy = etree.fromstring(etree.tostring(good))
        copy.remove(copy.find("ds:Signature", NS))
        good.set("ID", "_evil")
        next(good.iter(f"{{{NS['a']}}}NameID")).text = "00u9grace"
        etree.SubElement(good.find("ds:Signature", NS), f"{{{NS['ds']}}}Object").append(copy)
        return root

    def same_id(self) -> Any:
        """Two assertions with one ID, so that the reference means either."""
        root, good = self._signed_assertion()
        good.addprevious(self._evil(good, good.get("ID")))
        return root

    def encrypted_beside(self) -> Any:
        """A signed assertion, and one that anybody could encrypt for us."""
        root, good = self._signed_assertion()
        good.addnext(etree.fromstring(f'<a:EncryptedAssertion xmlns:a="{NS["a"]}"/>'))
        return root


FAMILIES = [*(f"xsw{n}" for n in range(1, 9)), "same_id", "encrypted_beside"]


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_wrapped_signature_vouches_for_nothing(login: Login, idp: SamlIdp, family: str) -> None:
    wrapped = getattr(Wrapping(idp, login.saying), family)()
    with pytest.raises(LoginError, match="not good"):
        await login.with_answer(etree.tostring(wrapped).decode())


# ------------------------------------------------------------- other attacks


async def test_a_comment_in_a_name_does_not_cut_it_short(login: Login, idp: SamlIdp) -> None:
    """CVE-2017-11427 and its like: the signature ignores the comment, a reader stops at it."""
    it = replace(login.saying, subject="00u1ada.evil")
    xml = honest(idp, it).replace("00u1ada.evil", "00u1ada<!---->.evil")
    with pytest.raises(LoginError, match="comments"):
        await login.with_answer(xml)


async def test_a_processing_instruction_is_no_part_of_an_answer(login: Login, idp: SamlIdp) -> None:
    xml = honest(idp, login.saying).replace("00u1ada", "00u1<?x?>ada")
    with pytest.raises(LoginError, match="processing instructions"):
        await login.with_answer(xml)


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE r SYSTEM "http://127.0.0.1:9/evil.dtd">',
        '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
        "<!DOCTYPE r [<!ATTLIST a:Assertion other ID #IMPLIED>]>",
    ],
    ids=["a file", "the network", "a billion laughs", "another kind of ID"],
)
async def test_a_document_type_is_refused_before_it_does_anything(
    login: Login, idp: SamlIdp, dtd: str
) -> None:
    it = replace(login.saying, subject="SUBJECT")
    name = "&x;" if "ENTITY x" in dtd else "&c;" if "ENTITY c" in dtd else "x"
    xml = dtd + honest(idp, it).replace("SUBJECT", name)
    with pytest.raises(LoginError, match=r"DTD|not XML"):
        await login.with_answer(xml)


async def test_the_key_of_anybody_else_signs_nothing(login: Login) -> None:
    with pytest.raises(LoginError, match="not signed by the identity provider"):
        await login.with_answer(honest(SamlIdp(), login.saying))


async def test_a_changed_word_breaks_the_signature(login: Login, idp: SamlIdp) -> None:
    with pytest.raises(LoginError, match="not signed by"):
        await login.with_answer(honest(idp, login.saying).replace("00u1ada", "00u9grace"))


async def test_an_unsigned_answer_is_refused(login: Login, idp: SamlIdp) -> None:
    with pytest.raises(LoginError, match="nobody has signed"):
        await login.with_answer(idp.response(login.saying, idp.assertion(login.saying)))


async def test_an_empty_signature_is_refused(login: Login, idp: SamlIdp) -> None:
    root = etree.fromstring(honest(idp, login.saying))
    for value in root.iter(f"{{{NS['ds']}}}SignatureValue"):
        value.text = ""
    with pytest.raises(LoginError):
        await login.with_answer(etree.tostring(root).decode())


async def test_a_signature_over_the_status_is_not_one_over_the_assertion(login: Login, idp: SamlIdp) -> None:
    """The provider's own good signature, over a part of the envelope that it signed elsewhere."""
    it = login.saying
    root = etree.fromstring(idp.response(it, idp.assertion(it)))
    other = etree.fromstring(honest(idp, replace(it, assertion_id="_x", response_id="_y")))
    signature = other.find("a:Assertion/ds:Signature", NS)
    root.find("a:Issuer", NS).addnext(signature)
    with pytest.raises(LoginError, match="over something else"):
        await login.with_answer(etree.tostring(root).decode())


async def test_a_public_key_used_as_a_shared_secret_is_refused(login: Login, idp: SamlIdp) -> None:
    root = etree.fromstring(idp.assertion(login.saying))
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.HMAC_SHA256,
        c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#",
    )
    done = signer.sign(root, key=idp.certificate.encode(), reference_uri=f"#{login.saying.assertion_id}")
    issuer, signature = done.find("a:Issuer", NS), done.find("ds:Signature", NS)
    issuer.addnext(signature)
    with pytest.raises(LoginError, match="not signed by"):
        await login.with_answer(idp.response(login.saying, etree.tostring(done).decode()))


async def test_sha1_is_not_enough(login: Login, idp: SamlIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = SHA1(idp)
    it = login.saying
    for signed in (weak.method(idp.assertion(it)), weak.digest(idp.assertion(it))):
        with pytest.raises(LoginError, match="not signed by"):
            await login.with_answer(idp.response(it, signed))


class SHA1:
    """A signer that still uses SHA-1, which signxml does only for whoever asks it to."""

    def __init__(self, idp: SamlIdp) -> None:
        self.idp = idp

    def _sign(self, xml: str, **how: Any) -> str:
        class Old(XMLSigner):
            def check_deprecated_methods(self) -> None:
                """Old providers do this."""

        root = etree.fromstring(xml)
        signer = Old(c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#", **how)
        done = signer.sign(
            root, key=self.idp.key, cert=self.idp.certificate, reference_uri=f"#{root.get('ID')}"
        )
        done.find("a:Issuer", NS).addnext(done.find("ds:Signature", NS))
        return etree.tostring(done).decode()

    def method(self, xml: str) -> str:
        return self._sign(xml, signature_algorithm=SignatureMethod.RSA_SHA1)

    def digest(self, xml: str) -> str:
        return self._sign(xml, digest_algorithm=DigestAlgorithm.SHA1)


@pytest.mark.parametrize(
    "transform",
    ["http://www.w3.org/TR/1999/REC-xpath-19991116", "http://www.w3.org/TR/1999/REC-xslt-19991116"],
)
async def test_a_transform_that_picks_a_part_is_refused(login: Login, idp: SamlIdp, transform: str) -> None:
    xml = honest(idp, login.saying).replace(
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature", transform, 1
    )
    with pytest.raises(LoginError, match="part of the element"):
        await login.with_answer(xml)


async def test_what_anybody_could_encrypt_for_us_says_nothing(
    login: Login, idp: SamlIdp, our_key: rsa.RSAPrivateKey
) -> None:
    it = login.saying
    hidden = idp.encrypt(idp.assertion(it), our_key.public_key())
    with pytest.raises(LoginError, match="nobody has signed"):
        await login.with_answer(idp.response(it, hidden))


async def test_aes_cbc_is_opened_only_inside_a_signed_response(
    login: Login, idp: SamlIdp, our_key: rsa.RSAPrivateKey
) -> None:
    """Else whoever sends it changed ten thousand times reads it from how it is refused."""
    it = login.saying
    hidden = idp.encrypt(idp.sign(idp.assertion(it)), our_key.public_key(), "aes256-cbc")
    with pytest.raises(LoginError, match="AES-CBC"):
        await login.with_answer(idp.response(it, hidden))


async def test_every_broken_cipher_is_refused_in_the_same_words(
    login: Login, idp: SamlIdp, our_key: rsa.RSAPrivateKey
) -> None:
    it, said = login.saying, set()
    for method in ("aes256-gcm", "aes256-cbc"):
        for place in (0, -1):
            root = etree.fromstring(idp.encrypt(idp.assertion(it), our_key.public_key(), method))
            value = list(root.iter("{http://www.w3.org/2001/04/xmlenc#}CipherValue"))[place]
            raw = bytearray(base64.b64decode(value.text))
            raw[-1] ^= 0xFF
            value.text = base64.b64encode(bytes(raw)).decode()
            xml = idp.sign(idp.response(it, etree.tostring(root).decode()))
            with pytest.raises(LoginError) as caught:
                await login.with_answer(xml)
            said.add(caught.value.why)
    assert said == {"The identity provider's answer is not good: it cannot be decrypted."}


@pytest.mark.parametrize("data", ["", "!!!!", "PGE+", base64.b64encode(b"<a" * 300_000).decode()], ids=len)
async def test_what_is_no_answer_at_all_is_refused(saml: SamlLogin, data: str) -> None:
    with pytest.raises(LoginError, match="not good"):
        await saml.accept(data)
