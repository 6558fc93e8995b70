"""mailhost: many SMTP virtual servers in one Twisted process."""

__version__ = "0.1.0"
