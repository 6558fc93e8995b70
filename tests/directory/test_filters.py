"""Nothing that comes from outside means anything in a filter or a name."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from ldap3.operation.search import (  # type: ignore[import-untyped]
    compile_filter,
    parse_filter,
)
from twisted.trial.unittest import SynchronousTestCase

from mailhost.directory.filters import (
    all_of,
    any_of,
    equals,
    escape,
    escape_name,
    first_part,
    name_key,
    parse_url,
)


class FilterTests(SynchronousTestCase):
    def test_escape(self) -> None:
        """RFC 4515 §3, §4: the five that must be, and all else that might be taken amiss."""
        self.assertEqual(r"\2a\28\29\5c\00", escape("*()\\\0"))
        self.assertEqual("a.b@example.com", escape("a.b@example.com"))
        self.assertEqual(r"\c3\a4", escape("\u00e4"))
        self.assertEqual("?", escape("\udc80").replace(r"\3f", "?"))

    @settings(max_examples=300)
    @given(st.text())
    @example("*)(uid=*")
    @example(" ")
    def test_round_trip(self, value: str) -> None:
        """What ldap3 sends is one equality match with just that value."""
        parsed = parse_filter(f"(mail={escape(value)})", None, False, False, None, False)
        match = compile_filter(parsed.elements[0])["equalityMatch"]
        self.assertEqual("mail", str(match["attributeDesc"]))
        self.assertEqual(value.encode("utf-8", "replace"), bytes(match["assertionValue"]))

    def test_combined(self) -> None:
        """One needs no bracket around it, several do."""
        self.assertEqual("(a=1)", any_of([equals("a", "1")]))
        self.assertEqual("(|(a=1)(b=2))", any_of([equals("a", "1"), equals("b", "2")]))
        self.assertEqual("(&(a=1)(b=2))", all_of("(a=1)", "", "(b=2)"))


class NameTests(SynchronousTestCase):
    def test_escape(self) -> None:
        """RFC 4514 §2.4."""
        self.assertEqual(r"\#a\, b\+c\"\\\<\>\;\ ", escape_name('#a, b+c"\\<>; '))

    @settings(max_examples=300)
    @given(st.text(st.characters(codec="utf-8"), min_size=1))
    def test_round_trip(self, value: str) -> None:
        """The first component comes back as it was, whatever is in it."""
        part = first_part(f"cn={escape_name(value)},dc=example")
        assert part is not None
        self.assertEqual(("cn", value, "dc=example"), (part.attribute, part.value, part.parent))

    def test_no_single_value(self) -> None:
        """Components with several values, BER values and what is no DN are left alone."""
        for dn in ("cn=a+uid=b,dc=x", "1.2.3=#0402,dc=x", "nonsense", "", "=x,dc=y"):
            self.assertIsNone(first_part(dn), dn)

    def test_key(self) -> None:
        """Two ways to write one name."""
        same = [r"CN=Smith\, Jane,OU=x", r"cn=Smith\2c Jane, ou=X", r"cn = smith\2C  jane,ou=x"]
        self.assertEqual(1, len(set(map(name_key, same))), list(map(name_key, same)))
        self.assertNotEqual(name_key("cn=a,dc=b"), name_key("cn=a,dc=c"))


class URLTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """RFC 4516: base, scope and filter, with % undone."""
        url = parse_url("ldaps://H.example:637/dc=a%20b??sub?(mail=*)")
        assert url is not None
        self.assertEqual(("ldaps", "h.example", 637), (url.scheme, url.host, url.port))
        self.assertEqual(("dc=a b", "sub", "(mail=*)"), (url.base, url.scope, url.filter))

    def test_none(self) -> None:
        """What is no LDAP URL."""
        for text in ("http://x/", "ldap://x:y/", "ldap:///dc=x??all", "", "mail"):
            self.assertIsNone(parse_url(text), text)
