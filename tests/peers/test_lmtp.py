"""LMTP with programs that are not ours: Postfix's test programs and Python's own client."""

from __future__ import annotations

import smtplib
import socket
import threading

from tests.support.peer_case import SENDER, PeerCase, content
from tests.support.process import reserve_address, split_address

RELAY = {"relay": {"default": "allow"}}


class OutboundTests(PeerCase):
    def test_to_a_mail_store(self) -> None:
        """smtp-sink as one: each recipient has its own reply."""
        sink = self.start_sink("-L")
        domain = {"name": "example.org", "type": "remote", "lmtp": True, "route": sink.next_hop}
        server = self.start_server(access=RELAY, domains=[domain])

        server.submit(["a@example.org", "b@example.org"], content("one"))

        sink.wait_for("one")
        server.wait_until_empty()

    def test_over_a_local_socket(self) -> None:
        """One recipient is taken, one has no room: only that one is tried again."""
        path = self.path("lmtp")
        said: list[str] = []
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        self.addCleanup(listening.close)
        threading.Thread(target=_store, args=(listening, said), daemon=True).start()
        domain = {"name": "example.org", "type": "remote", "lmtp": True, "route": f"unix:{path}"}
        server = self.start_server(access=RELAY, domains=[domain])

        server.submit(["a@example.org", "b@example.org"], content("one"))

        waiting = server.wait_for_attempts("b@example.org")
        self.assertIn("452 4.2.2 full", waiting.words)
        self.assertEqual(1, len(server.root.queue()))
        self.assertEqual("LHLO mail.example.com", said[0])


def _store(listening: socket.socket, said: list[str]) -> None:
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as reader:
        connection.sendall(b"220 store\r\n")
        while line := reader.readline().rstrip(b"\r\n"):
            said.append(line.decode())
            reply = b"250 ok\r\n"
            if line == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while reader.readline() != b".\r\n":
                    pass
                reply = b"250 2.0.0 taken\r\n452 4.2.2 full\r\n"
            connection.sendall(b"250-x\r\n250 PIPELINING\r\n" if line[:4] == b"LHLO" else reply)


class InboundTests(PeerCase):
    def test_lmtp_clients(self) -> None:
        """smtp-source gets as many replies as it has recipients; smtplib has one at a time."""
        server = self.make_server(access=RELAY)
        address = reserve_address()
        server.configure(listen=[server.address, {"address": address, "protocol": "lmtp"}])
        server.start()
        self.run_source(address, "-L", "-m", "3", "-r", "2", "-f", SENDER, "-t", "a@example.com")
        with smtplib.LMTP(*split_address(address)) as client:
            self.assertEqual({}, client.sendmail(SENDER, "b@example.com", content("two")))

        (delivered,) = server.wait_for_drop("b@example.com")
        self.assertIn(b" with LMTP id ", delivered.content)
        server.process.wait_until(lambda: len(server.root.drop()) == 4, "four messages in Drop")
