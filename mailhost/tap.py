"""
``twistd mailhost``: the command line of the service.

:Room: ``tap``
:Called by: twistd, through ``twisted/plugins/mailhost_plugin.py``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from mailhost.background import AppendedFile
from mailhost.config.reader import ConfigurationFaults, find_configuration, load_settings
from mailhost.config.settings import Settings
from mailhost.garbage import Caretaker
from mailhost.logs import Journal, owner_for, to_stream
from mailhost.workers.privileges import CannotChangeUser, check_user


class Options(usage.Options):
    """The options of ``twistd mailhost``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Run the virtual servers of a configuration file: etc/mailhost.yaml or etc/mailhost.ini "
        "below the current directory, else the same in /etc/mailhost."
    )
    optParameters = [["config", "c", None, "The configuration file, YAML or INI by its ending."]]

    def postOptions(self) -> None:
        """
        Read the configuration.

        :raises usage.UsageError: it has faults, all of them named.
        """
        given = self["config"]
        try:
            # Absolute, because twistd changes the directory when it goes into
            # the background.
            path = (Path(given) if given else find_configuration(Path.cwd())).absolute()
            self["settings"] = load_settings(path)
            check_user(self["settings"].user)
        except CannotChangeUser as problem:
            raise usage.UsageError(str(problem)) from None
        except ConfigurationFaults as faults:
            raise usage.UsageError(f"\n{faults}") from None
        self["path"] = path


def makeService(options: Options) -> IService:
    """The service twistd runs."""
    # twistd chooses the reactor; nothing above this line may import it.
    from twisted.internet import reactor

    from mailhost.control.api import ControlAPI
    from mailhost.control.callers import LocalGate
    from mailhost.control.door import Door, Doors, Opening
    from mailhost.service import MailhostService
    from mailhost.systemd import ServiceManager
    from mailhost.workers.supervisor import Supervisor

    path: Path = options["path"]
    settings: Settings = options["settings"]
    make = MailhostService if settings.workers == 1 else Supervisor
    root = _Root(_journal(options, settings), reactor)
    service: Any = make(settings, reactor, lambda: load_settings(path))
    service.journal = root.journal
    service.manager = ServiceManager(dict(os.environ))
    doors: list[Opening] = [Door(settings.control, ControlAPI(service, LocalGate()), reactor)]
    if settings.remote_control.listen is not None:
        # What only few need is loaded only there.
        from mailhost.control.remote import RemoteDoor, RemoteGate

        gate = RemoteGate(lambda: service.settings, reactor)
        api = ControlAPI(service, gate)
        doors.append(RemoteDoor(settings.remote_control, api, gate, reactor))
    if settings.metrics is not None:
        from mailhost.control.exposition import Exposition, Outlook

        doors.append(Outlook(*settings.metrics, Exposition(service), reactor))
    service.control = Doors(tuple(doors))
    service.setServiceParent(root)
    caretaker: Any = Caretaker(reactor)
    caretaker.setServiceParent(root)
    return root


def _journal(options: Options, settings: Settings) -> Journal | None:
    """The log; `None` where twistd's options name one of another kind."""
    given: Any = options.parent
    if given is None or given.get("logger") or given.get("syslog"):
        return None
    name = given.get("logfile")
    if given.get("nodaemon") and name in (None, "", "-"):
        journal = Journal(to_stream(sys.stdout))
    elif name == "-":
        return None  # twistd refuses a daemon that writes to a terminal
    else:
        # twistd changes the directory when it goes into the background.
        path = Path(name or "twistd.log").absolute()
        journal = Journal(AppendedFile(path, owner_for(settings.user)).write)
        if hasattr(signal, "SIGUSR1"):
            # Twisted's own log is rotated by it; ours need not be told.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    journal.configure(settings.log, settings.user)
    return journal


class _Root(MultiService):
    """What twistd runs; tells the application how it logs."""

    def __init__(self, journal: Journal | None, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self.journal = journal
        self.reactor = reactor

    def setServiceParent(self, parent: Any) -> None:
        """twistd looks for an observer in its application before it makes one."""
        if isinstance(parent, Componentized) and self.journal is not None:
            application: Any = parent
            application.setComponent(ILogObserver, self.journal)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # upstream

    def startService(self) -> None:
        """twistd is in the background by now, where threads live on."""
        if self.journal is not None:
            self.journal.start()
            self.reactor.addSystemEventTrigger("after", "shutdown", self.journal.stop)
        super().startService()  # type: ignore[no-untyped-call]  # upstream
