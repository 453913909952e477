"""
A zero-trust API gateway: nothing passes unless it is identified, within its limits,
allowed by policy and routed; everything that is decided is on record.

The way of a request is the way through these folders: L{gateway.http} reads one
unambiguous request from the wire; L{gateway.admission} asks who calls and whether they
may come in; L{gateway.routing} decides where to, and whether this user may go there;
L{gateway.upstream} forwards it; L{gateway.audit} remembers. L{gateway.chain} nests them
on one page.
"""
