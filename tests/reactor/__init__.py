"""The reactor, by Twisted's own tests and by a few of its own."""
