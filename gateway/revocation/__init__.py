"""
What is no longer good although its time is not over: tokens by identifier, by user or by
key. Lets everything else through.
"""
