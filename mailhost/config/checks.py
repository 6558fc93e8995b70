"""
Whether the settings make sense together.

:Room: ``config`` (floor 1)
:IIS: ACC-01..03, GEN-04, MSG-02, DEL-32, DOM-01 (what the console's pages check across fields).
:Called by: `mailhost.config.reader`, and by whoever builds `Settings` in code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path as FilePath

from attrs import frozen

from mailhost.config.faults import Path
from mailhost.config.settings import (
    DomainSettings,
    ListenAddress,
    Settings,
    VirtualServerSettings,
)
from mailhost.model.security import OutboundSecurity, TLSLevel


class Severity(Enum):
    """What follows from a finding."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class Finding:
    """
    Settings that do not go together, or that are dangerous.

    :ivar severity: an error refuses the configuration.
    :ivar path: the key it is about.
    :ivar words: what is wrong, and what is allowed or advised.
    :ivar others: further keys it rests on.
    """

    severity: Severity
    path: Path
    words: str
    others: tuple[Path, ...] = ()


def cross_check(settings: Settings) -> tuple[Finding, ...]:
    """All that does not go together in *settings*; errors and warnings, in their order."""
    findings = list(_check_names(settings))
    findings += _check_homes(settings)
    findings += _check_listen(settings)
    findings += _check_metrics(settings)
    findings += _check_remote_control(settings)
    for index, server in enumerate(settings.virtual_servers):
        at: Path = ("virtual_servers", index)
        findings += _check_limits(server, at)
        findings += _check_schedules(server, at)
        findings += _check_directories(server, at)
        findings += _check_domains(server, at)
        findings += _check_access(server, at)
        findings += _check_proxies(server, at)
        findings += _check_tls(server, at)
        findings += _check_logins(server, at)
        findings += _check_own_logins(server, at)
        findings += _check_extensions(server, at)
    return tuple(findings)


def _error(path: Path, words: str, *others: Path) -> Finding:
    return Finding(Severity.ERROR, path, words, others)


def _warning(path: Path, words: str, *others: Path) -> Finding:
    return Finding(Severity.WARNING, path, words, others)


# ---- between virtual servers


def _check_names(settings: Settings) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, server in enumerate(settings.virtual_servers):
        # Compared without case: names are typed on command lines and stand in INI heads.
        earlier = first.setdefault(server.name.lower(), index)
        if earlier != index:
            yield _error(
                ("virtual_servers", index, "name"),
                f"'{server.name}' is the name of virtual_servers[{earlier}] too; "
                "allowed: a name of its own",
                ("virtual_servers", earlier, "name"),
            )


def _check_homes(settings: Settings) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, server in enumerate(settings.virtual_servers):
        earlier = first.setdefault(_same(server.home), index)
        if earlier != index:
            yield _error(
                ("virtual_servers", index, "home"),
                f"'{server.home}' is the home of virtual server "
                f"'{settings.virtual_servers[earlier].name}' too; allowed: a directory of its own",
                ("virtual_servers", earlier, "home"),
            )


def _check_remote_control(settings: Settings) -> Iterator[Finding]:
    """Rights that nobody can use."""
    remote = settings.remote_control
    if remote.listen is not None:
        return
    words = "nobody can come with a name while remote_control.listen is null; advised: an address"
    for name in ("administrators", "readers"):
        if getattr(remote, name):
            yield _warning(("remote_control", name), words)
    for index, server in enumerate(settings.virtual_servers):
        if server.operators:
            yield _warning(("virtual_servers", index, "operators"), words)


def _check_metrics(settings: Settings) -> Iterator[Finding]:
    if settings.metrics is None:
        return
    host, port = settings.metrics
    if not ip_address(host).is_loopback:
        yield _warning(
            ("metrics",),
            f"whoever can connect to {host} port {port} may read the names of sites and how much "
            "mail there is; advised: an address of the loopback interface, such as 127.0.0.1",
        )


def _check_listen(settings: Settings) -> Iterator[Finding]:
    seen: list[tuple[int, ListenAddress, Path]] = []
    for index, server in enumerate(settings.virtual_servers):
        for place, address in enumerate(server.listen):
            path: Path = ("virtual_servers", index, "listen", place)
            for earlier, taken, other in seen:
                if earlier == index and taken == address:
                    yield _error(path, f"{address} stands here twice; allowed: once", other)
                    break
                if _collide(taken, address):
                    # GEN-04: at run time the second one fails, alone.
                    yield _warning(
                        path,
                        f"{address} is taken by {taken} of virtual server "
                        f"'{settings.virtual_servers[earlier].name}', so one of the two will not "
                        "listen; advised: another address or port",
                        other,
                    )
                    break
            seen.append((index, address, path))


def _collide(one: ListenAddress, other: ListenAddress) -> bool:
    """Whether the kernel refuses to bind both; port 0 never collides."""
    if one.port != other.port or one.port == 0 or one.is_ipv6 != other.is_ipv6:
        return False
    return one.host == other.host or one.is_wildcard or other.is_wildcard


# ---- within one virtual server


def _check_limits(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    message, session = server.messages.max_message_size, server.messages.max_session_size
    at_session, at_message = (
        (*at, "messages", "max_session_size"),
        (*at, "messages", "max_message_size"),
    )
    if session is not None and message is None:
        yield _warning(
            at_session,
            f"{session} octets limit the largest message as well, although max_message_size is "
            "unlimited; advised: unlimited",
            at_message,
        )
    elif session is not None and message is not None and session < message:
        yield _warning(
            at_session,
            f"{session} octets are less than max_message_size ({message}), so a session carries "
            "one such message and no other; advised: more",
            at_message,
        )
    most, per_domain = server.delivery.connections.max, server.delivery.connections.max_per_domain
    if most is not None and per_domain is not None and per_domain > most:
        yield _warning(
            (*at, "delivery", "connections", "max_per_domain"),
            f"{per_domain} connections are more than max ({most}), which holds; "
            "advised: as many or fewer",
            (*at, "delivery", "connections", "max"),
        )


def _check_schedules(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    for half in ("outbound", "local"):
        schedule = getattr(server.delivery, half)
        after = schedule.delay_notification_seconds
        if after is not None and after >= schedule.expiration_seconds:
            yield _warning(
                (*at, "delivery", half, "delay_notification"),
                "comes no earlier than expiration, so nobody will be told of a delay; "
                "advised: an earlier time, or none",
                (*at, "delivery", half, "expiration"),
            )


def _check_directories(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    at_badmail = (*at, "messages", "badmail", "directory")
    taken = {
        _same(server.pickup_directory): "Pickup",
        _same(server.queue_directory): "Queue",
        _same(server.sort_temp_directory): "SortTemp",
    }
    for path, name, directory in (
        ((*at, "drop", "directory"), "Drop", server.drop_directory),
        (at_badmail, "Badmail", server.badmail_directory),
    ):
        # DOM-01: Drop must differ from Pickup, or delivered mail is sent again and again.
        owner = taken.setdefault(_same(directory), name)
        if owner != name:
            yield _error(
                path,
                f"'{directory}' is this virtual server's {owner} directory; "
                "allowed: a directory of its own",
                (*at, "home"),
                (*at, "drop", "directory"),
            )


def _check_domains(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, domain in enumerate(server.domains):
        here: Path = (*at, "domains", index)
        earlier = first.setdefault(domain.name, index)
        if earlier != index:
            yield _error(
                (*here, "name"),
                f"'{domain.name}' is already domains[{earlier}]; allowed: one entry per domain",
                (*at, "domains", earlier, "name"),
            )
        elif domain.name == server.domain:
            yield _error(
                (*here, "name"),
                f"'{domain.name}' is the default domain already; allowed: another domain",
                (*at, "domain"),
                (*at, "fqdn"),
            )
        if domain.type == "alias":
            yield from _check_alias(domain, here)


def _check_alias(domain: DomainSettings, here: Path) -> Iterator[Finding]:
    if domain.name.startswith("*."):
        yield _error(
            (*here, "name"),
            f"'{domain.name}' is an alias with a wildcard; allowed: *. in remote domains only",
            (*here, "type"),
        )
    given = {
        "relay": domain.relay,
        "helo": domain.helo,
        "lmtp": domain.lmtp,
        "route": domain.route != (),
        "security": domain.security is not None,
        "hold": domain.hold is not None,
    }
    for name, is_set in given.items():
        if is_set:
            yield _error(
                (*here, name),
                "an alias domain is local, so nothing is sent to it; "
                "allowed: in remote domains only",
                (*here, "type"),
            )


# ---- TLS


def _check_tls(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    tls = server.access.tls
    if tls.certificate is not None:
        return
    here: Path = (*at, "access", "tls")
    bare = [one for one in server.listen if one.certificate is None]
    for name, is_set in (
        ("key", tls.key_ is not None),
        ("certificates", bool(tls.certificates)),
        ("require", tls.require and bool(bare)),
    ):
        if is_set:
            yield _error(
                (*here, name), "there is no certificate; allowed: with certificate only", here
            )
    for place, address in enumerate(server.listen):
        if address.implicit_tls and address.certificate is None:
            yield _error(
                (*at, "listen", place),
                f"{address} is to begin with TLS, and there is no certificate; "
                "allowed: with access.tls.certificate only",
                here,
            )


# ---- extensions


def _check_extensions(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    on, access = server.extensions, server.access
    here: Path = (*at, "extensions")
    plain = [one for one in server.listen if not one.implicit_tls]
    if access.tls.require and plain and not on.starttls:
        yield _error(
            (*here, "starttls"),
            f"TLS is required, and on {plain[0]} it could not begin; allowed: true",
            (*at, "access", "tls", "require"),
        )
    if not access.anonymous and not on.auth:
        yield _error(
            (*here, "auth"),
            "nobody could send: everybody has to log in; allowed: true",
            (*at, "access", "anonymous"),
        )
    for name, is_on in (("vrfy", on.vrfy), ("expn", on.expn)):
        if is_on and not server.ldap.enabled:
            yield _warning(
                (*here, name), "there is nobody to ask; advised: with ldap.enabled", (*at, "ldap")
            )


# ---- logins


def _check_logins(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    access = server.access
    here: Path = (*at, "access")
    if access.ldap and not server.ldap.enabled:
        yield _error(
            (*here, "ldap"), "there is no directory; allowed: with ldap.enabled", (*at, "ldap")
        )
    if not access.logins:
        yield from _check_no_logins(server, here)
        return
    if access.users is None and not access.ldap and access.basic.enabled:
        yield _error((*here, "basic"), "nobody can log in; allowed: with users or ldap", here)
    for name, is_set in (
        ("scram", access.scram),
        ("integrated", access.integrated),
        ("cram_md5", access.cram_md5),
    ):
        if is_set and access.users is None:
            why = "a directory does not know its keys" if access.ldap else "nobody can log in"
            yield _error((*here, name), f"{why}; allowed: with users", here)
    basic = access.basic
    yield from _check_offer(
        server, (*here, "basic"), "enabled", "require_tls", basic.enabled, basic.require_tls
    )
    yield from _check_offer(
        server,
        here,
        "integrated",
        "integrated_require_tls",
        access.integrated,
        access.integrated_require_tls,
    )
    yield from _check_offer(
        server,
        here,
        "keytab",
        "integrated_require_tls",
        access.keytab is not None and not access.integrated,
        access.integrated_require_tls,
    )
    yield from _check_certified(server, here)


def _needs_extra(path: Path, extra: str) -> Finding:
    return _error(
        path, f"the extra {extra} is not installed; allowed: after pip install 'mailhost[{extra}]'"
    )


def _check_certified(server: VirtualServerSettings, here: Path) -> Iterator[Finding]:
    """Logins by certificate, by token and by ticket."""
    access = server.access
    for key, is_set in (
        (("external",), access.external),
        (("tls", "client_map"), access.tls.client_map),
    ):
        if is_set and access.users is None:
            yield _error((*here, *key), "there are no users; allowed: with users", here)
    if access.external and access.tls.client == "none":
        yield _error(
            (*here, "external"),
            "nobody is asked for a certificate; allowed: with tls.client ask or require",
            (*here, "tls"),
        )
    if access.oauth.enabled and not _has_tls(server):
        yield _error(
            (*here, "oauth"),
            "is offered to nobody: there is no certificate; allowed: with access.tls.certificate",
            (*here, "tls"),
        )
    for name, is_set, package, extra in (
        ("oauth", access.oauth.enabled, "jwt", "oauth"),
        ("keytab", access.keytab is not None, "gssapi", "kerberos"),
    ):
        if is_set and find_spec(package) is None:
            yield _needs_extra((*here, name), extra)


def _check_no_logins(server: VirtualServerSettings, here: Path) -> Iterator[Finding]:
    access = server.access
    if not access.anonymous:
        yield _error(
            (*here, "anonymous"),
            f"nobody could send: there is no way to log in; allowed: with {_WAYS}",
            here,
        )
    for name, is_set in (("users", access.users is not None), ("ldap", access.ldap)):
        if is_set:
            yield _warning(
                (*here, name), f"does nothing without {_WAYS}; advised: one of them", here
            )


_WAYS = "basic.enabled, scram, integrated, keytab, cram_md5, external, oauth or tls.client_map"


def _has_tls(server: VirtualServerSettings) -> bool:
    certificates = [one.certificate for one in server.listen]
    return server.access.tls.certificate is not None or any(certificates)


def _check_offer(
    server: VirtualServerSettings, here: Path, name: str, safety: str, is_set: bool, safe: bool
) -> Iterator[Finding]:
    """
    Whether what the key *name* offers is offered to anybody, and not to eavesdroppers.

    :param safety: the key that makes it wait for TLS.
    """
    if is_set and safe and not _has_tls(server):
        yield _error(
            (*here, name),
            f"is offered to nobody: there is no certificate, and {safety} is true; "
            "allowed: with access.tls.certificate",
            (*here, safety),
        )
    elif is_set and not safe and not server.access.tls.require:
        yield _warning(
            (*here, safety),
            "logins may travel in clear text; advised: true",
            (*here, name),
        )


def _check_own_logins(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    """DEL-21: our own password goes to whom it is meant for, and to nobody else."""
    delivery = server.delivery
    here: Path = (*at, "delivery", "security")
    if delivery.security.login is not None:
        yield from _check_clear_login(delivery.security, here)
        if not delivery.smart_host:
            yield _warning(
                (*here, "auth"),
                "logs in at smart hosts only, and there is none; advised: smart_host",
                (*at, "delivery", "smart_host"),
            )
        elif delivery.direct_first:
            yield _error(
                (*here, "auth"),
                "would log in at hosts that DNS names as well; allowed: without direct_first",
                (*at, "delivery", "direct_first"),
            )
    for index, domain in enumerate(server.domains):
        security = domain.security
        if security is None or security.login is None:
            continue
        at_domain: Path = (*at, "domains", index, "security")
        yield from _check_clear_login(security, at_domain)
        if not domain.route and security.tls is not TLSLevel.VERIFIED:
            yield _error(
                (*at_domain, "auth"),
                "DNS may name anybody's hosts; allowed: with a route, or with tls verified",
                (*at, "domains", index, "route"),
            )


def _check_clear_login(security: OutboundSecurity, here: Path) -> Iterator[Finding]:
    login = security.login
    if login is not None and login.keytab is not None and find_spec("gssapi") is None:
        yield _needs_extra((*here, "keytab"), "kerberos")
    by_token = login is not None and login.tokens is not None
    if security.tls is TLSLevel.NONE:
        yield _warning(
            (*here, "tls"),
            f"the {'token' if by_token else 'password'} may travel in clear text; "
            "advised: verified",
            (*here, "auth"),
        )
    elif by_token and security.tls is not TLSLevel.VERIFIED:
        yield _warning(
            (*here, "tls"),
            "whoever answers in the host's place gets the token; advised: verified",
            (*here, "auth"),
        )


# ---- open relays


def _check_access(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    relay = server.access.relay
    if relay.allow:
        yield _warning(
            (*at, "access", "relay", "default"),
            "everybody may relay except the list below: an open relay; advised: deny",
        )
    else:
        for network in relay.wide_networks:
            yield _warning(
                (*at, "access", "relay", "except"),
                f"{network} lets a large part of the Internet relay: an open relay; "
                "advised: the networks of this server's own clients",
                (*at, "access", "relay", "default"),
            )
    local = {server.domain} | {d.name for d in server.domains if d.type == "alias"}
    for domain in relay.domains:
        if domain in local:
            yield _warning(
                (*at, "access", "relay", "except"),
                f"'{domain}' is a local domain, but this list is compared with clients' names in "
                "DNS, not with addresses of mail; advised: remove it",
                (*at, "domain"),
                (*at, "domains"),
            )


def _check_proxies(server: VirtualServerSettings, at: Path) -> Iterator[Finding]:
    if any(one.proxy for one in server.listen) and not server.access.proxies:
        yield _error(
            (*at, "listen"),
            "proxy: true, and nobody is a proxy: no connection would be taken; allowed: with the "
            "proxies' addresses in access.proxies",
            (*at, "access", "proxies"),
        )


def _same(directory: FilePath) -> str:
    """*directory* for comparing; relative and absolute spellings of one place are equal."""
    return os.path.normcase(os.path.abspath(directory))
