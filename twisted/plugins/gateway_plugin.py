"""Makes C{twistd gateway} known to Twisted."""

from twisted.application.service import ServiceMaker

gateway = ServiceMaker("gateway", "gateway.tap", "A zero-trust API gateway", "gateway")
