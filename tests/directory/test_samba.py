"""Active Directory as Samba has it: its schema, its rules, its ranges. Where it is installed."""

from __future__ import annotations

from mailhost.directory.binding import Binding, BindingKind
from mailhost.model.directory import Destination
from tests.directory.house import DirectoryCase, ad, locals_of
from tests.support.samba import ADMINISTRATOR, BASE, MISSING, PASSWORD, Samba

#: More than a domain controller says of one attribute at once (MaxValRange is 1,500).
_MEMBERS = 1600


def _contact(number: int) -> str:
    return f"CN=contact{number:04},CN=Users,{BASE}"


class SambaTests(DirectoryCase):
    if MISSING:
        skip = MISSING
    timeout = 400

    async def test_active_directory(self) -> None:
        """People, refusals, a login, and a group whose members come in ranges."""
        samba = Samba(self.folder())
        samba.start(self.addCleanup)
        self._fill(samba)
        binding = Binding(BindingKind.PLAIN_TEXT, ADMINISTRATOR, PASSWORD)
        resolver = self.resolver(samba.url, base=BASE, binding=binding)

        ann = await self.found(resolver, ad("a.short"))
        self.assertEqual((Destination(ad("ann")),), ann.destinations)
        told = {local: await self.refused(resolver, ad(local)) for local in ("nobody", "off")}
        self.assertEqual({"nobody": "5.1.1", "off": "5.2.1"}, told)
        everybody = await self.group(resolver, ad("everybody"))
        self.assertEqual(_MEMBERS, len(everybody.destinations))
        self.assertEqual("contact0000@ad.example.com", locals_of(everybody)[0])
        self.assertTrue(await resolver.bind_as("ann", PASSWORD))
        self.assertFalse(await resolver.bind_as("ann", "another"))

    def _fill(self, samba: Samba) -> None:
        users = f"CN=Users,{BASE}"
        password = f'"{PASSWORD}"'.encode("utf-16-le")
        people = [
            (
                f"CN={name},{users}",
                "user",
                {
                    "sAMAccountName": name,
                    "mail": f"{name}@ad.example.com",
                    "proxyAddresses": [
                        f"SMTP:{name}@ad.example.com",
                        f"smtp:{short}@ad.example.com",
                    ],
                    "unicodePwd": password,
                    "userAccountControl": control,
                },
            )
            for name, short, control in (("ann", "a.short", 512), ("off", "o.short", 514))
        ]
        contacts = [
            (_contact(n), "contact", {"mail": f"contact{n:04}@ad.example.com"})
            for n in range(_MEMBERS)
        ]
        group = (
            f"CN=everybody,{users}",
            "group",
            {"mail": "everybody@ad.example.com", "member": [_contact(n) for n in range(_MEMBERS)]},
        )
        samba.load([*people, *contacts, group])
