"""
DNS for the house: questions, answers, transport and cache.

:Room: ``relay.dns``
:RFC: 1035 (messages, transport), 2308 (negative answers), 6891 (EDNS), 5452 (forged answers).
:Called by: whoever holds a `mailhost.relay.dns.resolver.DNSResolver`.

dnspython reads and writes the octets; sockets, time-outs, the cache and the
judgement of answers are our own.
"""
