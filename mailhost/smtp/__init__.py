"""
The SMTP protocol on plain values: octets in, events out.

:Room: ``smtp`` -- sans-I/O; never imports Twisted, knows no clock and no policy.
:RFC: 5321.
"""
