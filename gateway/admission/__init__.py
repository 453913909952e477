"""May it in? The client's address, CORS, health, the token, the rate limit: in this order."""
