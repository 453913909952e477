"""
The project's benchmark: C{python -m tests.bench} (what requests cost beside nginx and
HAProxy), C{.growth} (what more users, routes and connections cost), C{.profile} (where the time goes).
"""
