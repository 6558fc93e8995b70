"""Two workers as real processes: served, reloaded, stopped, killed, fewer of them."""

from __future__ import annotations

import os
import pwd
import signal
import smtplib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import define, field
from twisted.trial.unittest import SkipTest

from tests.crash.submitters import Submitters, wait_for
from tests.support.process import (
    LOOPBACK,
    Mailhost,
    Process,
    mailhost_command,
    project_environment,
    reserve_address,
    split_address,
)
from tests.support.recording_sink import RecordingSink
from tests.workers.house import House, HouseCase, is_alive, wait_until_gone


def connect_again(house: House, said: str = "") -> smtplib.SMTP:
    """A session that is let in; others go on being refused until one has left."""

    def try_once() -> smtplib.SMTP | None:
        try:
            return house.client()
        except smtplib.SMTPConnectError:
            return None

    return house.process.wait_until(try_once, said or "a session that is let in")


class LifeTests(HouseCase):
    def test_serve_reload_stop(self) -> None:
        """Both take mail; both go by a new configuration; both end with a farewell."""
        house = self.start_house()
        sessions = house.sessions_of_both()
        house.wait_for_drop("here@example.com", sum(map(len, sessions.values())))
        self.assertEqual(2, len(house.queues()))

        second = reserve_address()
        house.configure(listen=[house.address, second], domain="example.net")
        house.process.send_signal(signal.SIGHUP)
        house.process.wait_for_words("The configuration is reloaded")
        for number, clients in sessions.items():
            self.assertEqual(250, clients[0].mail("a@example.com")[0], number)
            self.assertEqual(550, clients[0].rcpt("x@example.com")[0], number)
            self.assertEqual(250, clients[0].rcpt("x@example.net")[0], number)
            clients[0].rset()
        with smtplib.SMTP(*split_address(second), timeout=10) as client:
            client.sendmail("a@example.com", ["new@example.net"], "\r\n")

        house.mailhost.configuration.write_text("virtual_servers: [{nam: x}]\n")
        house.process.send_signal(signal.SIGHUP)
        house.process.wait_for_words("The configuration is not reloaded")
        self.assertEqual(250, sessions[0][0].noop()[0])

        pids = house.worker_pids()
        self.assertEqual(2, len([pid for pid in pids if is_alive(pid)]))
        house.process.send_signal(signal.SIGTERM)
        for clients in sessions.values():
            self.assertEqual(421, clients[0].getreply()[0])
        house.process.wait()
        self.assertEqual([], [pid for pid in pids if is_alive(pid)])
        self.assertNotIn("Traceback", house.process.said())

    def test_terminal(self) -> None:
        """SIGINT from a terminal reaches all: the workers leave it to the supervisor."""
        house = self.start_house()
        for pid in house.worker_pids():
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        client, _ = house.session("a@example.com")

        house.process.send_signal(signal.SIGINT)

        self.assertEqual(421, client.getreply()[0])
        house.process.wait()
        self.assertNotIn("has ended", house.process.said())

    def test_supervisor_killed(self) -> None:
        """Its workers stop in order by themselves; the next one takes over from them."""
        house = self.start_house(connection_timeout="1m")
        session, _ = house.session("a@example.com")
        pids = house.worker_pids()

        house.process.kill()
        house.start()

        self.assertEqual(421, session.getreply()[0])
        wait_until_gone(*pids)
        house.submit("again@example.com")
        house.wait_for_drop("again@example.com")
        self.assertEqual([], [p for p in house.worker_pids() if p in pids])


class KillTests(HouseCase):
    def test_worker_killed_under_load(self) -> None:
        """Nothing acknowledged is lost, and only the sessions of the dead one end."""
        sink = RecordingSink(LOOPBACK)
        sink.start()
        self.addCleanup(sink.stop)
        host, port = split_address(sink.address)
        house = self.start_house(
            access={"relay": {"default": "allow"}},
            messages={"max_session_size": "unlimited"},
            delivery={"smart_host": f"[{host}]:{port}", "outbound": {"retry": ["1s"]}},
        )
        sessions = house.sessions_of_both()
        submitters = Submitters(house.address)
        submitters.start()
        for dead in (1, 0):
            wanted = len(submitters.acknowledged) + 60
            self.assertTrue(wait_for(lambda n=wanted: len(submitters.acknowledged) >= n, 10))
            pid = house.worker_pids()[dead]
            os.kill(pid, signal.SIGKILL)
            house.process.wait_for_words(f"Worker {dead}, process {pid}, has ended")
            if dead == 1:
                self.assertEqual(250, sessions[0][0].noop()[0])
                with self.assertRaises(smtplib.SMTPServerDisconnected):
                    sessions[1][0].noop()
            house.process.wait_until(
                lambda n=dead, p=pid: house.worker_pids()[n] != p, "another process in its place"
            )
        wanted = len(submitters.acknowledged) + 30
        self.assertTrue(wait_for(lambda: len(submitters.acknowledged) >= wanted, 10))
        submitters.stop()
        house.process.wait_until(lambda: not any(house.waiting()), "empty queues")

        errands = [submitters.submitted[one] for one in submitters.acknowledged]
        relayed = {copy.test_id for copy in sink.copies}
        dropped = {one.test_id for one in house.root.drop_for("here@example.com")}
        self.assertEqual(set(), {one.test_id for one in errands if one.relayed} - relayed)
        self.assertEqual(set(), {one.test_id for one in errands if one.dropped} - dropped)
        reported = [one for one in errands if one.returned]
        self.assertEqual([], [o for o in reported if not house.root.reports_for(o.sender)])
        self.assertGreaterEqual(len(errands), 150)

    def test_fewer_workers(self) -> None:
        """What is queued by a worker that exists no longer is delivered by another."""
        nowhere = reserve_address()
        house = self.make_house(
            access={"relay": {"default": "allow"}},
            delivery={
                "smart_host": "[{}]:{}".format(*split_address(nowhere)),
                "outbound": {"retry": ["1s"]},
            },
        )
        house.start()
        while not all(count >= 2 for count in house.waiting()):
            house.submit("there@example.org")
        queued = sum(house.waiting())
        house.process.terminate()

        sink = RecordingSink(LOOPBACK)
        sink.start()
        self.addCleanup(sink.stop)
        house.workers = 1
        house.configure(
            delivery={
                "smart_host": "[{}]:{}".format(*split_address(sink.address)),
                "outbound": {"retry": ["1s"]},
            }
        )
        house.start()

        house.process.wait_until(lambda: len(sink.copies) >= queued, f"{queued} copies")
        house.process.wait_for_words("worker-1 is empty and removed")
        self.assertEqual([house.root.home / "Queue"], house.queues())
        self.assertEqual([], list((house.root.home / "SortTemp").iterdir()))
        self.assertEqual(queued, len(sink.copies))


class LimitTests(HouseCase):
    def test_one_session_in_all(self) -> None:
        """A limit of one inbound connection is one, whichever worker has it."""
        house = self.start_house(max_connections=1)
        for _ in range(6):
            first = connect_again(house)
            self.assertEqual(250, first.noop()[0])
            for _ in range(3):
                with self.assertRaises(smtplib.SMTPConnectError) as refused:
                    house.client()
                self.assertEqual(421, refused.exception.smtp_code)
            first.quit()

    def test_a_dead_worker_holds_no_session(self) -> None:
        """What it had borrowed is free again."""
        house = self.start_house(max_connections=1)
        client, worker = house.session("a@example.com")
        os.kill(house.worker_pids()[worker], signal.SIGKILL)
        client.close()

        connect_again(house).quit()

    def test_one_connection_out_in_all(self) -> None:
        """A limit of one outbound connection is one, and both workers get their turn."""
        sink = RecordingSink(LOOPBACK, 0.02)
        sink.start()
        self.addCleanup(sink.stop)
        host, port = split_address(sink.address)
        house = self.start_house(
            access={"relay": {"default": "allow"}},
            delivery={
                "smart_host": f"[{host}]:{port}",
                "connections": {"max": 1, "max_per_domain": 1},
            },
        )
        house.sessions_of_both()
        for _ in range(20):
            house.submit("there@example.org")
        most = 0

        def all_there() -> bool:
            nonlocal most
            most = max(most, sink.open_sessions)
            return len(sink.copies) >= 20

        house.process.wait_until(all_there, "20 copies")
        self.assertEqual((20, 1), (len(sink.copies), most))


class UserTests(HouseCase):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("only root can become somebody else")
        self.directory.chmod(0o755)
        self.mailroots = self.path("mailroots")
        self.mailroots.mkdir()
        nobody = pwd.getpwnam("nobody")
        os.chown(self.mailroots, nobody.pw_uid, nobody.pw_gid)
        self.nobody = nobody

    def ids(self, pid: int) -> tuple[set[int], set[int], set[int]]:
        """User ids, group ids and supplementary groups of *pid*."""
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        table = dict(line.split(":\t", 1) for line in lines)
        uid, gid, groups = (set(map(int, table[key].split())) for key in ("Uid", "Gid", "Groups"))
        return uid, gid, groups

    def check(self, house: House, pids: Callable[[], list[int]]) -> None:
        house.start()
        house.submit("here@example.com")
        house.wait_for_drop("here@example.com")
        for pid in (house.process.pid, *pids()):
            uid, gid, groups = self.ids(pid)
            self.assertEqual(({self.nobody.pw_uid}, {self.nobody.pw_gid}), (uid, gid))
            self.assertEqual(set(os.getgrouplist("nobody", self.nobody.pw_gid)), groups)
        owners = {path.stat().st_uid for path in house.root.home.rglob("*")}
        self.assertEqual({self.nobody.pw_uid}, owners)

    def test_one_process(self) -> None:
        """The port is bound by root, everything else is done by the user."""
        house = self.make_house(1, "nobody", self.mailroots / "one")
        self.check(house, list)

    def test_workers(self) -> None:
        """The workers are never root."""
        house = self.make_house(2, "nobody", self.mailroots / "two")
        house.mailhost = self.common_mailhost(house)
        self.check(house, house.worker_pids)

    def test_only_root_can(self) -> None:
        """A process of another user says so, and does not start."""
        house = self.make_house(1, "root", self.mailroots / "three")
        mailhost = self.common_mailhost(house)
        done = subprocess.run(
            mailhost.command(),
            user=self.nobody.pw_uid,
            group=self.nobody.pw_gid,
            extra_groups=[],
            env=mailhost.environment(),
            cwd=self.mailroots,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn("only root can become 'root'", done.stdout + done.stderr)

    def common_mailhost(self, house: House) -> CommonMailhost:
        configuration = house.mailhost.configuration
        return CommonMailhost(self.addCleanup, configuration, python=python_for_everybody())


@define(eq=False)
class CommonMailhost(Mailhost):
    """:ivar python: one that every user may run; the tests' own may lie in a home."""

    python: Path = field(kw_only=True)

    def launch(self) -> None:
        log = self.configuration.with_suffix(".log")
        self.process = Process(self.command(), log)
        self.process.start(self.clean, self.configuration.parent, self.environment())

    def command(self) -> list[str]:
        return [str(self.python), *mailhost_command(self.configuration)[1:]]

    def environment(self) -> dict[str, str]:
        return {**project_environment(), "PYTHONPATH": os.pathsep.join(map(str, sys.path))}


def python_for_everybody() -> Path:
    """
    This Python, or the system's of the same version.

    :raises SkipTest: there is none.
    """
    system = Path("/usr/bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (Path(sys.executable), system):
        if program.exists() and _others_may_run(program):
            return program
    raise SkipTest("no Python of this version is for everybody")


def _others_may_run(program: Path) -> bool:
    """Whether *program* lies where everybody may go."""
    real = program.resolve()
    places = {real, *real.parents, *program.parents}
    return all(path.stat().st_mode & 0o005 == 0o005 for path in places)
