"""Tests for `mailhost.policy.relaying`: routes in addresses, and names that cannot be looked up."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import DomainSettings
from mailhost.errors import ResolveProblem
from mailhost.model.access import AccessList
from tests.support.world import World, make_settings

START = b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\n"
PARTNER = DomainSettings(name="partner.example", type="remote", relay=True)


def world_with(**access: Any) -> World:
    settings = make_settings(domains=(PARTNER,))
    return World(evolve(settings, access=evolve(settings.access, **access)))


def reply_to(world: World, receiver: str) -> bytes:
    said = world.connect().send(START + b"RCPT TO:<" + receiver.encode() + b">\r\n")
    return said.splitlines()[-1][:3]


class RouteTests(SynchronousTestCase):
    def test_routes_take_the_right_to_relay(self) -> None:
        """To our own domain, and to one that is open to all: the next host might obey."""
        permitted = {"relay": AccessList.build(False, ["192.0.2.7"])}
        for local in ("u%host.example", "u%host", '"u@host.example"', "host!u", "a.example!b!u"):
            for domain in ("example.com", "partner.example"):
                receiver = f"{local}@{domain}"
                self.assertEqual(b"550", reply_to(world_with(), receiver), receiver)
                self.assertEqual(b"250", reply_to(world_with(**permitted), receiver), receiver)

    def test_what_is_no_route(self) -> None:
        """Signs that name no host are a part of the name."""
        for local in ("50%", "%u", "u!", "!u", "a+b=c.example", '"u @ home"', "u&%$#"):
            for domain in ("example.com", "partner.example"):
                receiver = f"{local}@{domain}"
                self.assertEqual(b"250", reply_to(world_with(), receiver), receiver)


class NameTests(SynchronousTestCase):
    def test_a_failure_matches_nothing(self) -> None:
        """ACC-23: who cannot be looked up is neither let in by a name nor kept out by one."""
        listed = AccessList.build(False, ["*.trusted.example"])
        unlisted = AccessList.build(True, ["*.bad.example"])
        for broken in ("pointer", "address"):
            world = world_with(relay=listed, connections=unlisted)
            problem = ResolveProblem("4.4.3", "no answer")
            world.names.pointers["192.0.2.7"] = (
                problem if broken == "pointer" else ["mx.trusted.example", "mx.bad.example"]
            )
            for host in ("mx.trusted.example", "mx.bad.example"):
                world.names.hosts[host] = problem
            self.assertEqual(b"550", reply_to(world, "x@elsewhere.example"), broken)
            self.assertEqual(b"250", reply_to(world, "b@example.com"), broken)
