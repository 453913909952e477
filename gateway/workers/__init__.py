"""
Many processes as one gateway: a supervisor that holds the listening sockets and serves
nothing, and workers that serve; and how one gateway hands its sockets to the next.
"""
