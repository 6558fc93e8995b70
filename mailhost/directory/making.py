"""
From the *LDAP Routing* page to a resolver.

:Room: ``directory``
:IIS: LDP-01..08.
:Called by: whoever puts a virtual server together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve

from mailhost.config.settings.ldap import LDAPSettings
from mailhost.directory.binding import (
    Binding,
    BindingKind,
    DirectoryServer,
    Terms,
    check_possible,
)
from mailhost.directory.direct import DirectDirectory
from mailhost.directory.entries import EntryReader
from mailhost.directory.homes import HomeServers
from mailhost.directory.resolver import LDAPAddressResolver, Limits
from mailhost.directory.schemas import SCHEMAS
from mailhost.model.directory import Schema
from mailhost.secrets import SecretProblem, reveal


def make_resolver(
    settings: LDAPSettings, reactor: Any, own_names: Iterable[str] = ()
) -> LDAPAddressResolver:
    """
    The resolver that the page describes; nothing is asked yet.

    :param own_names: host names that are us: a mailbox whose home server has one is local.
    :raises ValueError: the page has no server or no base, or names a binding that this
        machine cannot do.
    """
    return LDAPAddressResolver(
        reactor,
        settings.server,
        settings.base or "",
        schema_of(settings),
        binding_of(settings),
        start_tls=settings.start_tls,
        ca=settings.ca,
        homes=homes_of(settings, own_names),
        limits=Limits(
            lookup_seconds=settings.timeout,
            found_seconds=settings.cache,
            refused_seconds=settings.cache_unknown,
            cache_count=settings.cache_size,
            threads=settings.connections,
            most_members=settings.max_members,
        ),
    )


def make_direct(
    settings: LDAPSettings, seconds: Callable[[], float], own_names: Iterable[str] = ()
) -> DirectDirectory:
    """
    The same for a program without a reactor.

    :param seconds: a clock for durations.
    :raises ValueError: see `make_resolver`.
    """
    servers = tuple(map(DirectoryServer.parse, settings.server))
    check_possible(BindingKind(settings.binding), servers)
    return DirectDirectory(
        servers,
        Terms(binding_of(settings), settings.start_tls, settings.ca),
        EntryReader(schema_of(settings), homes_of(settings, own_names)),
        settings.base or "",
        seconds,
        settings.max_members,
    )


def homes_of(settings: LDAPSettings, own_names: Iterable[str]) -> HomeServers:
    """Which home servers are which hosts."""
    hosts = dict(settings.home_servers)
    return HomeServers(hosts, settings.home_domain or "", frozenset(own_names))


def schema_of(settings: LDAPSettings) -> Schema:
    """The named schema with what the page says otherwise."""
    changes: dict[str, Any] = dict(settings.attributes.given())
    named = SCHEMAS[settings.schema]
    if changes.get("disabled", named.disabled) != named.disabled or "disabled_words" in changes:
        changes["disabled_bit"] = 0
    return evolve(named, **changes)


def binding_of(settings: LDAPSettings) -> Binding:
    """Who we are."""
    return Binding(
        BindingKind(settings.binding),
        settings.username or "",
        _password_of(settings),
        settings.password_file,
        settings.domain or "",
    )


def _password_of(settings: LDAPSettings) -> str:
    """:raises ValueError: it is in a variable that is not set."""
    if settings.password is None:
        return ""
    try:
        return reveal(settings.password)
    except SecretProblem as problem:
        raise ValueError(f"password: {problem}") from problem
