"""Where to, and may this user go there? The path, the table of routes, the policy."""
