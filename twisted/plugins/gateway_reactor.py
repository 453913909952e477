"""Makes twistd know the reactor: C{twistd --reactor gateway}."""

from twisted.application.reactors import Reactor

gateway = Reactor("gateway", "gateway.reactor", "uvloop's native transports")
