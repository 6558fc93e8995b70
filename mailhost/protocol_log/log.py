"""
The protocol log of one virtual server: takes what was said, has it written elsewhere.

:Room: ``protocol_log``
:IIS: GEN-08, GEN-11.
:Made by: `mailhost.server`; called by `mailhost.net`.

Whoever has something to tell asks `ProtocolLog.on` when a session begins: a log that is off
costs one look for each session.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import define, field
from twisted.logger import Logger

from mailhost.background import Background
from mailhost.config.settings import ProtocolLogSettings
from mailhost.model.protocol_log import Spoken, Turn
from mailhost.model.session import SessionFacts
from mailhost.protocol_log.files import STYLES, LogFiles, LogTable
from mailhost.protocol_log.formats import Form


@define(eq=False)
class ProtocolLog:
    """
    :ivar on: somebody wants to know.
    """

    on: bool = False
    _server: str = field(default="", init=False)
    _target: LogFiles | LogTable | None = field(default=None, init=False)
    # Not written to any more; closed by the thread that has.
    _left: list[LogFiles | LogTable] = field(factory=list, init=False)
    _background: Background[Spoken | int] = field(init=False)
    _wanted: object = field(default=None, init=False)
    _failing: bool = field(default=False, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._background = Background("protocol log", self._write, lambda count: count)

    def configure(
        self, settings: ProtocolLogSettings, directory: Path, server: str, machine: str
    ) -> None:
        """
        Go by *settings* from now on; a session goes on as it has begun.

        :param directory: where it is written.
        :param server: the name of the virtual server.
        :param machine: what this machine is called.
        """
        wanted = (settings, directory, server, machine)
        if settings.enabled and wanted != self._wanted:
            form = Form(server, machine, settings.fields)
            if self._target is not None:
                self._left.append(self._target)
            self._server = server
            if settings.format == "sqlite":
                self._target = LogTable(directory, form)
            else:
                self._target = LogFiles(
                    directory,
                    form,
                    STYLES[settings.format],
                    settings.schedule,
                    settings.local_time,
                )
            self._background.start()
        self._wanted = wanted
        self.on = settings.enabled

    def stop(self) -> None:
        """Write what has gathered; waits for the disk, so it is for a thread."""
        self.on = False
        self._background.stop()
        self._wanted = None
        for target in (*self._left, self._target):
            if target is not None:
                target.close()

    # ---- what was said

    def inbound(self, at: float, session: SessionFacts, turn: Turn) -> None:
        """A client's command and our reply."""
        self._background.put(
            Spoken(at, session.peer, session.hello, session.local, session.local_port, turn)
        )

    def outbound(self, at: float, peer: str, port: int, name: str, turn: Turn) -> None:
        """
        Our command to another host, or its reply.

        :param name: which of the two.
        """
        self._background.put(Spoken(at, peer, name, "", port, turn))

    # ---- in the thread

    def _write(self, items: Sequence[Spoken | int]) -> None:
        while self._left:
            self._left.pop().close()
        target = self._target
        assert target is not None, "it was configured"
        lost = sum(one for one in items if isinstance(one, int))
        try:
            target.write([one for one in items if not isinstance(one, int)])
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._log.error(
                    "{server}: the protocol log cannot be written, which is told once: {error}",
                    server=self._server,
                    error=str(error),
                )
            raise
        self._failing = False
        if lost:
            self._log.error(
                "{server}: {count} lines of the protocol log are lost",
                server=self._server,
                count=lost,
            )
