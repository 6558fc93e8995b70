"""``mailhost send`` and ``mailhost-sendmail``: to a server that runs, and to one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.test_steer import SteerCase
from tests.support.process import project_environment, wait_until

TEXT = b"Subject: hello\n\ntext\n"


class SendCase(SteerCase):
    def send(
        self, *words: str, text: bytes = TEXT, status: int = 0, as_sendmail: bool = False
    ) -> str:
        """What it has said."""
        script = "from mailhost.cli import main; main()"
        arguments = ["send", "--config", str(self.mailhost.configuration), *words]
        environment = project_environment()
        if as_sendmail:
            script = "from mailhost.cli.send import sendmail; sendmail()"
            arguments = list(words)
            environment["MAILHOST_CONFIG"] = str(self.mailhost.configuration)
            environment["MAILHOST_SERVER"] = "the other"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            input=text,
            env=environment,
            cwd=self.directory,
            capture_output=True,
        )
        said = (done.stdout + done.stderr).decode()
        self.assertEqual(status, done.returncode, said)
        return said

    def folder(self, number: int, name: str) -> Path:
        return Path(self.tree["virtual_servers"][number]["home"]) / name

    def dropped(self, number: int) -> list[bytes]:
        files = sorted(self.folder(number, "Drop").glob("*.eml"))
        return [path.read_bytes() for path in files]


class WorkersTests(SendCase):
    def test_running(self) -> None:
        """Its id is told at once; it comes with a date, a name and the sender's address."""
        self.start()

        said = self.send("-f", "me@b.example", "bob", "carol@example.com")

        queue_id = said.split()[-1]
        self.assertEqual(24, len(queue_id))
        (octets,) = wait_until(lambda: self.dropped(0), "the message in Drop")
        for expected in (
            b"x-sender: me@b.example\r\nx-receiver: bob@example.com\r\nx-receiver: carol@",
            b"\r\nDate: ",
            b"\r\nMessage-ID: ",
            b"From: me@b.example\r\nSubject: hello\r\n\r\ntext\r\n",
            queue_id.encode(),
        ):
            self.assertIn(expected, octets)
        self.mailhost.process.wait_for_words("POST /v1/submissions : 200")

    def test_as_sendmail(self) -> None:
        """As cron calls it: quiet, with the statuses that programs know."""
        self.start()
        self.assertEqual(
            "", self.send("-t", "-oi", text=b"To: bob\nBcc: c\n\n.\nx\n", as_sendmail=True)
        )
        (octets,) = wait_until(lambda: self.dropped(1), "the message in Drop")
        self.assertIn(b"x-receiver: c@example.com", octets)
        self.assertNotIn(b"Bcc", octets)
        self.assertTrue(octets.endswith(b"\r\n.\r\nx\r\n"))
        for status, words in ((64, ("-bs",)), (65, ("a b@",)), (65, ("-t",))):
            self.send(*words, status=status, as_sendmail=True)

    def test_refused(self) -> None:
        """What cannot be sent as it is comes back to the program, and does not go to Badmail."""
        self.start()
        self.assertIn("NUL", self.send("bob", text=b"Subject: x\n\n\0\n", status=1))
        self.assertEqual([], list(self.folder(0, "Badmail").iterdir()))
        self.send(status=2)
        self.send("--server", "nobody", "bob", status=2)

    def test_large(self) -> None:
        """It goes through Pickup, and arrives whole."""
        self.start()
        said = self.send("bob", text=b"Subject: x\n\n" + (b"x" * 900 + b"\n") * 1000)
        self.assertIn("put into Pickup as ", said)
        (octets,) = wait_until(lambda: self.dropped(0), "the message in Drop")
        self.assertEqual(1000, octets.count(b"x" * 900))

    def test_not_running(self) -> None:
        """Pickup keeps it until the server starts; where that cannot be it is told."""
        self.start()
        self.mailhost.process.terminate()

        self.assertIn("put into Pickup as ", self.send("bob"))

        self.assertEqual(1, len(list(self.folder(0, "Pickup").glob("*.eml"))))
        self.start()
        wait_until(lambda: self.dropped(0), "the message in Drop")
        self.mailhost.process.terminate()
        self.folder(0, "Pickup").rename(self.folder(0, "away"))
        self.assertIn("No such file", self.send("bob", status=3))
        self.mailhost.configuration.write_text("wrokers: 1\n")
        self.send("bob", status=78, as_sendmail=True)

    def test_stopped(self) -> None:
        """A virtual server that is stopped finds it in Pickup when it starts."""
        self.start()
        self.run_command("stop", "one")
        self.assertIn("put into Pickup as ", self.send("bob"))
        self.run_command("start", "one")
        wait_until(lambda: self.dropped(0), "the message in Drop")
