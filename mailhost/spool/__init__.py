"""
The durable queue of one virtual server, and Badmail.

:Room: ``spool`` -- writes below Queue, SortTemp and Badmail, in threads.
"""
