"""
LDAP routing: what a directory says of senders and recipients.

:Room: ``directory`` -- blocking work stays in threads of its own (promise P9).
:IIS: §6, LDP-01..09.
"""
