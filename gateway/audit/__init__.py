"""Remember: what was decided about every request, in SQLite, by a thread of its own."""
