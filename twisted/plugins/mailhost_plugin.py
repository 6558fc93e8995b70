"""The door twistd comes in by; read at every twistd start, so it holds nothing else."""

from twisted.application.service import ServiceMaker

mailhost = ServiceMaker(  # type: ignore[no-untyped-call]  # upstream has no annotations
    "mailhost", "mailhost.tap", "Many SMTP virtual servers in one process.", "mailhost"
)
