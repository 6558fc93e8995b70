"""
A real directory: Debian's slapd, from a folder of its own, on a port of its own.

Two trees: ``dc=ad`` in the shape of Active Directory, ``dc=people`` with inetOrgPerson.
`write_trees` says who is in them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from attrs import define, field

from tests.support.process import Clean, Process, reserve_port, takes_connections

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap:/usr/local/libexec:/usr/bin")
MISSING = "slapd is not installed (apt-get install slapd)" if SLAPD is None else ""

AD = "dc=ad,dc=example,dc=com"
PEOPLE = "dc=people,dc=example,dc=com"
#: Binds in the AD tree; `LIMITED` may see one entry at a time.
READER = f"cn=reader,{AD}"
LIMITED = f"cn=limited,{AD}"
PASSWORD = "a password of the tests"

_SCHEMAS = Path("/etc/ldap/schema")
_OWN_SCHEMA = Path(__file__).with_name("adlike.schema")
_MODULES = Path("/usr/lib/ldap")

Entry = tuple[str, Mapping[str, Sequence[str]]]


def _ldif(entry: Entry) -> str:
    dn, attributes = entry
    lines = [_line("dn", dn)]
    lines += (_line(name, value) for name, values in attributes.items() for value in values)
    return "\n".join(lines) + "\n\n"


def _line(name: str, value: str) -> str:
    if value.isascii() and value.isprintable() and value[:1] not in (" ", ":", "<", ""):
        return f"{name}: {value}"
    import base64

    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def user(number: int) -> str:
    """The DN of one of the many."""
    return f"cn=User {number:05},ou=People,{AD}"


def _user(cn: str, address: str, more: Mapping[str, Sequence[str]] | None = None) -> Entry:
    local = address.partition("@")[0]
    attributes: dict[str, Sequence[str]] = {
        "objectClass": ["user"],
        "cn": [cn],
        "sAMAccountName": [local],
        "mail": [address],
        "proxyAddresses": [f"SMTP:{address}"],
        "userAccountControl": ["512"],
    }
    escaped = cn.replace("\\", "\\\\").replace(",", "\\,").replace("+", "\\+")
    return f"cn={escaped},ou=People,{AD}", {**attributes, **(more or {})}


def _group(
    name: str, members: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
) -> Entry:
    attributes: dict[str, Sequence[str]] = {
        "objectClass": ["group"],
        "cn": [name],
        "mail": [f"{name}@ad.example.com"],
        "member": members,
    }
    return f"cn={name},ou=Groups,{AD}", {**attributes, **(more or {})}


def group(name: str) -> str:
    """The DN of a group of the AD tree."""
    return f"cn={name},ou=Groups,{AD}"


def special(name: str) -> str:
    """The DN of one of the AD tree's special users."""
    return f"cn={name},ou=People,{AD}"


def _ad_frame() -> Iterator[Entry]:
    yield AD, {"objectClass": ["dcObject", "organization"], "dc": ["ad"], "o": ["Example"]}
    for unit in ("People", "Groups"):
        yield f"ou={unit},{AD}", {"objectClass": ["organizationalUnit"], "ou": [unit]}
    for name in ("reader", "limited"):
        yield (
            f"cn={name},{AD}",
            {
                "objectClass": ["organizationalRole", "simpleSecurityObject"],
                "cn": [name],
                "userPassword": [PASSWORD],
            },
        )


def _ad_specials() -> Iterator[Entry]:
    def one(name: str, **more: Sequence[str]) -> Entry:
        return _user(name, f"{name}@ad.example.com", more)

    yield one("disabled", userAccountControl=["514"])
    yield one(
        "twin.one", proxyAddresses=["SMTP:twin.one@ad.example.com", "smtp:twin@ad.example.com"]
    )
    yield one(
        "twin.two", proxyAddresses=["SMTP:twin.two@ad.example.com", "smtp:twin@ad.example.com"]
    )
    yield one("away", altRecipient=[special("clerk")])
    yield one("copied", altRecipient=[special("clerk")], deliverAndRedirect=["TRUE"])
    yield one("clerk", userPassword=["the clerk's password"], publicDelegates=[special("helper")])
    yield one("helper", userPassword=["the helper's password"])
    yield one("ring.a", altRecipient=[special("ring.b")])
    yield one("ring.b", altRecipient=[special("ring.a")])
    yield one("mate.a", altRecipient=[special("mate.b")], deliverAndRedirect=["TRUE"])
    yield one("mate.b", altRecipient=[special("mate.a")], deliverAndRedirect=["TRUE"])
    yield one("to.nobody", altRecipient=[special("gone")])
    yield one("to.group", altRecipient=[group("owned")])
    yield one("homed", msExchHomeServerName=["/o=Org/ou=Site/cn=Configuration/cn=Servers/cn=MAIL1"])
    yield one("homed.mta", homeMTA=["CN=Microsoft MTA,CN=MAIL2,CN=Servers,CN=Org"])
    yield one("homed.here", msExchHomeServerName=["/o=Org/cn=Configuration/cn=Servers/cn=HERE"])
    yield one("moved", targetAddress=["SMTP:moved@example.net"])
    yield _user("Smith, Jane (Ext) *+\\ \u00e4", "odd@ad.example.com")
    yield (
        f"cn=Partner,ou=People,{AD}",
        {
            "objectClass": ["contact"],
            "cn": ["Partner"],
            "mail": ["partner@ad.example.com"],
            "targetAddress": ["SMTP:partner@example.org"],
        },
    )


def _ad_groups() -> Iterator[Entry]:
    yield _group(
        "owned",
        [special("clerk"), special("helper")],
        {"managedBy": [special("helper")], "reportToOwner": ["TRUE"]},
    )
    yield _group(
        "silent",
        [special("clerk"), group("owned")],
        {"reportToOwner": ["FALSE"], "reportToOriginator": ["FALSE"]},
    )
    yield _group(
        "mixed",
        [
            special(name)
            for name in ("clerk", "disabled", "copied", "ring.a", "to.nobody", "no such user")
        ]
        + [f"cn=Smith\\, Jane (Ext) *\\+\\\\ \u00e4,ou=People,{AD}", f"cn=Partner,ou=People,{AD}"],
    )
    yield (
        f"cn=dynamic,ou=Groups,{AD}",
        {
            "objectClass": ["msExchDynamicDistributionList"],
            "cn": ["dynamic"],
            "mail": ["dynamic@ad.example.com"],
            "msExchDynamicDLFilter": ["(&(objectClass=user)(|(cn=mate.*)(cn=clerk)))"],
            "msExchDynamicDLBaseDN": [f"ou=People,{AD}"],
        },
    )
    for level in range(10):
        inner = group(f"deep{(level + 1) % 10}")
        yield _group(f"deep{level}", [special(("clerk", "helper")[level % 2]), inner])


def _ad_many(people: int, groups: int, largest: int) -> Iterator[Entry]:
    for number in range(people):
        address = f"user{number:05}@ad.example.com"
        other = f"smtp:first.last{number:05}@ad.example.com"
        yield _user(f"User {number:05}", address, {"proxyAddresses": [f"SMTP:{address}", other]})
    for number in range(groups):
        chosen = {(number * 37 + step * 101) % people for step in range(10)}
        yield _group(f"team{number:04}", [user(one) for one in sorted(chosen)])
    if largest:
        yield _group("everybody", [user(one) for one in range(largest)])


def _people() -> Iterator[Entry]:
    yield PEOPLE, {"objectClass": ["dcObject", "organization"], "dc": ["people"], "o": ["Example"]}

    def person(uid: str, classes: Sequence[str] = (), **more: Sequence[str]) -> Entry:
        attributes: dict[str, Sequence[str]] = {
            "objectClass": ["inetOrgPerson", "mailAccount", *classes],
            "uid": [uid],
            "cn": [uid],
            "sn": [uid],
            "mail": [f"{uid}@people.example.com"],
        }
        return f"uid={uid},{PEOPLE}", {**attributes, **more}

    local = ("inetLocalMailRecipient",)
    yield person("ann", mailAlternateAddress=["a.other@people.example.com"])
    yield person("off", accountStatus=["disabled"])
    yield person(
        "hosted", local, mailLocalAddress=["h@people.example.com"], mailHost=["Mx1.example.com"]
    )
    yield person(
        "routed", local, mailHost=["mx2.example.com"], mailRoutingAddress=["r@inside.example"]
    )
    yield person("rewritten", local, mailRoutingAddress=["ann@people.example.com"])
    yield person("here", mailHost=["mail.example.com"])
    yield person("badhost", mailHost=["no host!"])
    yield person("fwd", mailForwardingAddress=["ann@people.example.com", "x@example.net"])
    yield person("fwdcopy", mailForwardingAddress=["x@example.net"], mailKeepCopy=["TRUE"])
    yield person("fwdself", mailForwardingAddress=["fwdself@people.example.com"])

    def listed(cn: str, *classes: str, **more: Sequence[str]) -> Entry:
        attributes = {
            "objectClass": list(classes),
            "cn": [cn],
            "mail": [f"{cn}@people.example.com"],
        }
        return f"cn={cn},{PEOPLE}", {**attributes, **more}

    yield listed(
        "names",
        "groupOfNames",
        "mailGroup",
        member=[f"uid=ann,{PEOPLE}", f"uid=off,{PEOPLE}", f"cn=addresses,{PEOPLE}"],
    )
    yield listed(
        "addresses",
        "nisMailAlias",
        "mailGroup",
        rfc822MailMember=[
            "ann@people.example.com",
            "A.Other@people.example.com",
            "stranger@example.net",
            "not an address",
            "unqualified",
            "hosted@people.example.com",
        ],
    )
    yield listed("byurl", "groupOfURLs", memberURL=[f"ldap:///{PEOPLE}??sub?(uid=fwd*)"])
    yield listed("badurl", "groupOfURLs", memberURL=["http://example.com/"])


def write_trees(folder: Path, people: int = 0, groups: int = 0, largest: int = 0) -> None:
    """
    Two LDIF files for ``slapadd``.

    :param people: users in the AD tree besides the special ones.
    :param groups: groups of ten of them.
    :param largest: members of the group ``everybody``; 0: there is none.
    """
    ad = (_ad_frame(), _ad_specials(), _ad_groups(), _ad_many(people, groups, largest))
    with (folder / "1.ldif").open("w", encoding="utf-8") as file:
        file.writelines(_ldif(entry) for part in ad for entry in part)
    with (folder / "2.ldif").open("w", encoding="utf-8") as file:
        file.writelines(_ldif(entry) for entry in _people())


_CONFIGURATION = """\
{includes}
modulepath {modules}
moduleload back_mdb
pidfile {folder}/pid
argsfile {folder}/args
sizelimit unlimited
idletimeout {idle}
{tls}
authz-regexp "gidNumber=.*,cn=peercred,cn=external,cn=auth" "{reader}"

database mdb
suffix "{ad}"
directory {folder}/1
maxsize 268435456
dbnosync
index objectClass,cn,mail,proxyAddresses,sAMAccountName eq
limits dn.exact="{limited}" size.soft=1 size.hard=1 size.prtotal=1
access to attrs=userPassword by anonymous auth by * none
access to * by * read

database mdb
suffix "{people}"
directory {folder}/2
maxsize 16777216
dbnosync
index objectClass,uid,mail,mailLocalAddress,mailAlternateAddress eq
access to * by * read
{more}
"""


@define(eq=False)
class Slapd:
    """
    One server with its data.

    :ivar folder: configuration, data and log; as short a path as sockets need.
    :ivar certificate: certificate and key; with them it speaks TLS.
    :ivar idle_seconds: a connection that is silent for so long is closed; 0: never.
    :ivar more: further lines of configuration.
    """

    folder: Path
    certificate: tuple[Path, Path] | None = None
    idle_seconds: int = 0
    more: str = ""
    port: int = field(factory=lambda: reserve_port("127.0.0.1"))
    tls_port: int = field(factory=lambda: reserve_port("127.0.0.1"))
    process: Process = field(init=False)

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ldapi://{quote(str(self.folder / 'socket'), safe='')}"

    def load(self, people: int = 0, groups: int = 0, largest: int = 0) -> None:
        """Write the configuration and the data."""
        assert SLAPD is not None
        names = ("core", "cosine", "inetorgperson", "misc")
        schemas = [*(_SCHEMAS / f"{name}.schema" for name in names), _OWN_SCHEMA]
        tls = ""
        if self.certificate is not None:
            tls = "TLSCertificateFile {}\nTLSCertificateKeyFile {}".format(*self.certificate)
        (self.folder / "slapd.conf").write_text(
            _CONFIGURATION.format(
                includes="\n".join(f"include {path}" for path in schemas),
                modules=_MODULES,
                folder=self.folder,
                idle=self.idle_seconds,
                tls=tls,
                reader=READER,
                limited=LIMITED,
                ad=AD,
                people=PEOPLE,
                more=self.more,
            )
        )
        write_trees(self.folder, people, groups, largest)
        for number in ("1", "2"):
            (self.folder / number).mkdir()
        for number in ("1", "2"):
            command = [SLAPD, "-Tadd", "-q", "-f", str(self.folder / "slapd.conf"), "-n", number]
            done = subprocess.run(
                [*command, "-l", str(self.folder / f"{number}.ldif")],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode:
                raise AssertionError(f"slapadd: {done.stderr}")

    def start(self, clean: Clean) -> None:
        """Run it, as often as it has ended."""
        assert SLAPD is not None
        urls = [self.url, self.socket_url]
        if self.certificate is not None:
            urls.append(f"ldaps://127.0.0.1:{self.tls_port}")
        self.process = Process(
            [SLAPD, "-d", "0", "-h", " ".join(urls), "-f", str(self.folder / "slapd.conf")],
            self.folder / "log",
        )
        self.process.start(clean)
        address = f"127.0.0.1:{self.port}"
        self.process.wait_until(lambda: takes_connections(address), "slapd listening")


@define(eq=False)
class SharedSlapd:
    """One server for all tests of a module that only ask; see `shared`."""

    _found: Slapd | None = None
    _folder: TemporaryDirectory[str] | None = None

    def get(self) -> Slapd:
        """Started when it is first asked for; 10,000 people, 1,000 groups."""
        if self._found is None:
            import atexit

            self._folder = TemporaryDirectory(prefix="slapd")
            atexit.register(self._folder.cleanup)
            slapd = Slapd(Path(self._folder.name))
            slapd.load(people=10_000, groups=1_000, largest=5_000)
            slapd.start(lambda function: atexit.register(function))
            self._found = slapd
        return self._found


SHARED = SharedSlapd()
