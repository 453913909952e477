"""
C{gateway explain}: what would become of a request, and why; lets nothing out and counts
nothing.

It sends a made-up request through the very stages that serve real ones
(L{gateway.explain.run}), over parts that only read (L{gateway.explain.reading}), and says of
each stage what it saw (L{gateway.explain.stages}).
"""
