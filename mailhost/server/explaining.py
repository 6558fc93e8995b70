"""
What would become of a message, and what decides it.

:Room: ``server``
:IIS: the order of §3.4 and §5.4.
:Called by: `mailhost.control`.

The parts that decide about real mail are asked; here is only what is said about it.  Each
line names the setting behind it, as in ``docs/settings.rst``, from the virtual server's table on.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from mailhost.authentication.exchange import Authentication
from mailhost.config.settings import VirtualServerSettings
from mailhost.errors import AuthenticationProblem, ResolveProblem, SyntaxProblem
from mailhost.intake.desk import Desk
from mailhost.interfaces import IAddressResolver
from mailhost.model.access import AccessList
from mailhost.model.account import Account
from mailhost.model.address import Mailbox, path_text
from mailhost.model.directory import Found, Trace
from mailhost.model.envelope import Handling
from mailhost.model.explanation import Explanation, Step
from mailhost.model.outcome import Fate
from mailhost.model.route import Drop, MailExchange
from mailhost.model.schedule import RetrySchedule
from mailhost.model.security import OutboundSecurity, TLSLevel
from mailhost.policy.dns_lists import score_of
from mailhost.policy.relaying import Right, right_to_relay
from mailhost.relay.dispatch import Way
from mailhost.relay.line import IMPLICIT_TLS_PORT
from mailhost.relay.manager import RelayManager
from mailhost.routing.domains import LocalDomain, RemoteDomain
from mailhost.server.rehearsal import Rehearsal, Rehearsed
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules

#: Recipients that one address may stand for and that are followed.
_MOST_WAYS = 10

#: Whether DNSSEC has proven the mail exchanges: what becomes of mail that needs it.
_PROVEN = {
    True: "mail that needs it may go there: DNSSEC has proven the MX records",
    False: "mail that needs it comes back (5.7.30): DNSSEC does not prove the MX records",
}

_TOPICS = {"connect": "connection", "EHLO": "connection", "MAIL": "sender"}


@define(eq=False)
class Explainer:
    """
    :ivar settings: of the virtual server, those in force.
    :ivar state: of the virtual server.
    :ivar desk: decides what comes in.
    :ivar relay: knows where it goes.
    :ivar rules: of the address that clients connect to.
    :ivar authentication: decides on logins; `None`: nobody can log in.
    """

    settings: VirtualServerSettings
    state: str
    desk: Desk
    relay: RelayManager
    rules: Rules
    authentication: Authentication | None = None
    _steps: list[Step] = field(factory=list, init=False)
    _ways: list[dict[str, Any]] = field(factory=list, init=False)

    async def explain(
        self,
        client: str,
        sender: Mailbox | None,
        recipient: Mailbox,
        login: str | None = None,
        secure: bool = True,
    ) -> Explanation:
        """
        What would become of a message from *client*.

        :param login: the user who has logged in; `None`: nobody.
        :param secure: TLS is on where it is offered.
        """
        settings = self.settings
        secure = secure and self.rules.starttls
        self._tell("server", f"{settings.name}, {self.state}; default domain {settings.domain}")
        account = await self._log_in(login)
        if login is not None and account is None:
            return Explanation(str(replies.LOGIN_FAILED), False, tuple(self._steps), ())
        rehearsal = Rehearsal(self.desk, self.rules)
        heard = await rehearsal.run(client, sender, recipient, account, secure)
        self._tell_session(heard, secure)
        said = dict(heard.said)
        if "RCPT" in said:
            await self._tell_recipient(heard, recipient)
        if heard.accepted:
            self._tell_greylist(heard)
            self._tell_sender(sender)
            await self._tell_ways(heard)
            self._tell_schedules()
        return Explanation(heard.reply, heard.accepted, tuple(self._steps), tuple(self._ways))

    def _tell(self, topic: str, words: str, setting: str = "") -> None:
        self._steps.append(Step(topic, words, setting))

    # ---- the session

    async def _log_in(self, name: str | None) -> Account | None:
        if name is None:
            return None
        account: Account | None = None
        words, setting = "nobody can log in here", "access"
        if self.authentication is not None:
            access = self.settings.access
            if access.users is not None or access.ldap:
                setting = "access.users" if access.users is not None else "access.ldap"
            words = f"there is no user {name}"
            try:
                full = self.authentication.full_name(name)
                account = self.authentication.credentials.find_account(full)
                # A directory is asked with passwords only: the user is believed to be there.
                account = account or (Account(full) if access.ldap else None)
            except SyntaxProblem:
                account = None
            except AuthenticationProblem as problem:
                words = f"users cannot be looked up now: {problem}"
        if account is not None:
            words = f"logged in as {account.name}"
        self._tell("login", words, setting)
        return account

    def _tell_session(self, heard: Rehearsed, secure: bool) -> None:
        settings, session = self.settings, heard.session
        if session.peer_names is not None:
            names = ", ".join(session.peer_names) or "none that leads back to it"
            self._tell("client", f"{session.peer}, names in DNS: {names}")
        for command, reply in heard.said:
            if command == "connect" and reply.startswith("2"):
                control = settings.access.connections
                words = _listing(control, session.peer, session.peer_names or ())
                self._tell("connection", f"{session.peer} is let in: {words}", "access.connections")
                if heard.waits[0]:
                    words = f"{heard.waits[0]:.3g} s late, and who talks before it is refused"
                    self._tell("greeting", words, "access.greet_delay")
            elif command == "EHLO" and reply.startswith("2"):
                self._tell("TLS", "on" if secure else "off", "access.tls")
            elif command != "RCPT":
                refused = not reply.startswith("2")
                self._tell(_TOPICS[command], reply, heard.setting if refused else "")
        self._tell_lists(heard)
        self._tell_tarpit(heard)

    def _tell_lists(self, heard: Rehearsed) -> None:
        access = self.settings.access
        if not access.dns_lists:
            return
        if heard.entries is not None:
            found = ", ".join(f"{one.zone} ({one.score:+d})" for one in heard.entries)
            most = access.dns_lists_refuse_at
            words = f"{found or 'in none'}: {score_of(heard.entries)}, refused from {most} on"
        elif heard.accepted:
            words = "not asked: it is known, may relay, has logged in, or writes to postmaster"
        else:
            words = "not asked: it is refused in any case"
        self._tell("lists in DNS", words, "access.dns_lists")

    def _tell_greylist(self, heard: Rehearsed) -> None:
        greylist, terms = self.desk.greylist, self.settings.access.greylist
        if greylist is None or not heard.greylisted:
            return
        words = "451 4.7.1 at first, where this sender and recipient are new to it"
        if greylist.passes(heard.session.peer, terms, self.desk.clock.seconds()):
            words = "let in at once: it has come back often enough"
        self._tell("greylist", words, "access.greylist")

    def _tell_tarpit(self, heard: Rehearsed) -> None:
        tarpit = self.settings.access.tarpit
        if heard.accepted or not heard.guarded or not tarpit.delay_seconds:
            return
        words = (
            f"the first refusal is {heard.waits[-1]:.3g} s late; after {tarpit.free} each "
            f"{tarpit.delay_seconds:g} s later than the one before, up to {tarpit.max_seconds:g} s"
        )
        self._tell("tarpit", words, "access.tarpit")

    async def _tell_recipient(self, heard: Rehearsed, given: Mailbox) -> None:
        categorizer = self.desk.categorizer
        path = categorizer.qualify(given)
        domain = categorizer.find_domain(path)
        session, access = heard.session, self.settings.access
        if isinstance(domain, LocalDomain):
            kind = "alias" if domain.alias else "default"
            setting = f"domains[{domain.name}]" if domain.alias else "domain"
            self._tell("domain", f"{path.domain} is local, the {kind} domain", setting)
            if self.desk.directory is not None:
                await self._tell_directory(self.desk.directory, categorizer.stamp(path))
        else:
            if domain is not None:
                words = f"{path.domain} is ruled by the remote domain {domain.name}"
                self._tell("domain", words, f"domains[{domain.name}]")
            else:
                self._tell("domain", f"{path.domain} is not ours, and no entry rules it")
            relays = isinstance(domain, RemoteDomain) and domain.relay
            right = right_to_relay(session, relays, access.relay)
            name = domain.name if domain is not None else ""
            words, setting = _of_right(right, session.account, name)
            if right in (Right.LIST, Right.NONE):
                listing = _listing(access.relay, session.peer, session.peer_names or ())
                words = f"{words}: {listing}"
            self._tell("relay", words, setting)
        self._tell("recipient", heard.reply, "" if heard.accepted else heard.setting)

    async def _tell_directory(self, directory: IAddressResolver, path: Mailbox) -> None:
        trace_of = getattr(directory, "trace", None)
        if trace_of is None:
            self._tell("directory", f"{path} is looked up; this directory shows no steps", "ldap")
            return
        trace: Trace = await trace_of(path)
        for step in trace.steps:
            words = (
                f"{step.server} {step.scope} {step.base or 'the root'}: {step.filter}: "
                f"{step.count} found in {1000 * step.seconds:.1f} ms"
            )
            self._tell("directory", words, "ldap")
        result = trace.result
        if isinstance(result, Found):
            to = [
                f"{one.address}" + (f" at {one.host}" if one.host is not None else "")
                for one in result.destinations
            ]
            to += [f"the group {one.address}" for one in result.groups]
            self._tell("directory", f"{result.kind.value} {result.dn}: to {', '.join(to)}", "ldap")
        elif result is not None:
            self._tell("directory", f"refused: {result.words}", "ldap")
        else:
            self._tell("directory", f"no answer: {trace.problem}", "ldap")

    # ---- the way out

    def _tell_sender(self, sender: Mailbox | None) -> None:
        categorizer = self.desk.categorizer
        qualified = None if sender is None else categorizer.qualify(sender)
        leaves = categorizer.masquerade(qualified)
        if leaves != qualified:
            words = f"leaves as {path_text(leaves)}"
            self._tell("sender", words, "delivery.masquerade_domain")

    async def _tell_ways(self, heard: Rehearsed) -> None:
        special = heard.destinations.special
        for number, path in enumerate(heard.destinations.paths):
            if number == _MOST_WAYS:
                self._tell("recipient", f"and {len(heard.destinations.paths) - number} more")
                return
            await self._tell_way(path, special.get(number, Handling()))

    async def _tell_way(self, path: Mailbox, handling: Handling) -> None:
        if handling.group:
            words = f"{path} is a group: {handling.group} is expanded after acceptance"
            self._tell("group", words, "ldap")
            self._ways.append({"recipient": str(path), "fate": "expanded", "site": None})
            return
        held = self.desk.categorizer.find_domain(path)
        if isinstance(held, RemoteDomain) and held.hold is not None and handling.host is None:
            words = f"mail for {held.name} waits until it is asked for, by ETRN or ATRN"
            self._tell("held", words, f"domains[{held.name}].hold")
        way = await self.relay.way(path, handling.host)
        told: dict[str, Any] = {"recipient": str(path), "fate": "relayed", "site": None}
        self._ways.append(told)
        words, setting = self._route_words(path, way, handling)
        self._tell("route", f"{path}: {words}", setting)
        if isinstance(way.route, Drop):
            told["fate"] = Fate.DELIVERED.value
            return
        if way.problem is not None:
            told["fate"] = way.problem.fate.value
            self._tell("hosts", f"{way.problem.status} {way.problem.words}")
            return
        assert way.destination is not None
        told["site"] = way.destination.key
        told["addresses"] = await self._tell_hosts(way)
        self._tell_security(path, way.destination.security, told["addresses"])
        if way.exchanges and self.settings.extensions.requiretls:
            self._tell("REQUIRETLS", _PROVEN[way.proven], "resolver.trust_ad")
        self._tell_site(way.destination.key)

    def _route_words(self, path: Mailbox, way: Way, handling: Handling) -> tuple[str, str]:
        setting = self.desk.categorizer.source_of(path, handling.host)
        if isinstance(way.route, Drop):
            return f"final delivery into {self.settings.drop_directory}", setting
        if isinstance(way.route, MailExchange):
            behind = " and, where none answers, the smart host" if way.route.otherwise else ""
            return f"the mail exchanges of {way.route.domain}{behind}", setting
        hosts = way.destination.hops if way.destination is not None else ()
        return f"to {', '.join(map(str, hosts))}", setting

    async def _tell_hosts(self, way: Way) -> list[str]:
        """Each host with its addresses; all addresses, in the order to try."""
        assert way.destination is not None
        preferences = {one.host: one.preference for one in way.exchanges}
        addresses: list[str] = []
        for hop in way.destination.hops:
            mx = f"MX {preferences[hop.host]} " if hop.host in preferences else ""
            try:
                places = await self.relay.places(hop)
            except ResolveProblem as problem:
                self._tell("host", f"{mx}{hop}: {problem.status} {problem.words}")
                continue
            found = [f"{_bracketed(one.address)}:{one.port}" for one in places]
            addresses += found
            self._tell("host", f"{mx}{hop}: {', '.join(found)}")
        return addresses

    def _tell_security(
        self, path: Mailbox, security: OutboundSecurity, addresses: list[str]
    ) -> None:
        domain = self.desk.categorizer.find_domain(path)
        own = isinstance(domain, RemoteDomain) and domain.security is not None
        setting = f"domains[{domain.name}].security" if own and domain else "delivery.security"
        words = security.tls.value
        port = f":{IMPLICIT_TLS_PORT}"
        if security.tls is not TLSLevel.NONE and any(one.endswith(port) for one in addresses):
            words = f"{words}; at port {IMPLICIT_TLS_PORT} before the greeting"
        self._tell("TLS policy", words, f"{setting}.tls")
        login = security.login
        if login is None:
            self._tell("credentials", "none", f"{setting}.auth")
            return
        where = "in the configuration"
        if login.password_file is not None:
            where = f"from {login.password_file}"
        elif login.tokens is not None:
            where = f"a token from {login.tokens.url}"
        elif login.password is not None and login.password.variable:
            where = f"from the variable {login.password.variable}"
        words = f"user {login.username}, password {where}, by {', '.join(login.mechanisms)}"
        self._tell("credentials", words, f"{setting}.auth")

    def _tell_site(self, key: str) -> None:
        view = next((one for one in self.relay.sites() if one.key == key), None)
        if view is None:
            limit = self.settings.delivery.connections.max_per_domain
            most = "any number" if limit is None else str(limit)
            words = f"{key}: nothing is known of it now; at most {most} connections"
            self._tell("site", words, "delivery.connections.max_per_domain")
            return
        words = f"{key}: {view.connections} of {view.window} connections, "
        words += f"{view.waiting_messages} messages wait in memory"
        self._tell("site", words, "delivery.connections")
        for wait in (*view.waits, *self.relay.waits()):
            self._tell("wait", wait.reason, wait.setting)

    def _tell_schedules(self) -> None:
        delivery = self.settings.delivery
        fates = {way["fate"] for way in self._ways}
        if fates & {"relayed", "delayed"}:
            self._tell("schedule", _schedule_words(delivery.outbound), "delivery.outbound")
        if "delivered" in fates:
            self._tell("schedule", _schedule_words(delivery.local), "delivery.local")


def _listing(control: AccessList, address: str, names: tuple[str, ...]) -> str:
    """Why *control* permits *address*, or does not."""
    entry = control.listed(address, names)
    if entry is not None:
        return f"listed as {entry}"
    return f"not listed, and the default is {'allow' if control.allow else 'deny'}"


def _of_right(right: Right, account: Account | None, domain: str) -> tuple[str, str]:
    """*right* in words, and its setting."""
    if right is Right.DOMAIN:
        return "allowed to everybody for this domain", f"domains[{domain}].relay"
    if right is Right.LIST:
        return "allowed to this client", "access.relay"
    if right is Right.LOGIN and account is not None:
        return f"allowed to {account.name}, who has logged in", "access.relay.authenticated"
    return "not allowed to this client", "access.relay"


def _schedule_words(schedule: RetrySchedule) -> str:
    intervals = ", ".join(map(_span, schedule.intervals))
    after = schedule.delay_notification_seconds
    warned = "no report of delay" if after is None else f"a report of delay after {_span(after)}"
    return (
        f"tried again after {intervals} and so on; {warned}; "
        f"returned after {_span(schedule.expiration_seconds)}"
    )


def _span(seconds: int) -> str:
    """As it is written in a configuration: ``15m``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
