"""
Delivery reports: what the sender is told of failure, delay and success.

:Room: ``reports`` -- composes octets; no Twisted, no I/O, no clock.
:RFC: 3464 (delivery status), 6522 (multipart/report), 3834 (automatic mail).
:IIS: §10.6.
"""
