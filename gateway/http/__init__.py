"""
The engine: an HTTP/1 server channel and upstream client that stream both ways.

It reads one unambiguous request at a time and knows nothing of the product above it.
"""
