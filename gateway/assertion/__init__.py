"""
The gateway's own word on who calls: short-lived signed assertions for upstreams, so that a
service need not trust the network between. Lets nothing in: it only speaks.
"""
