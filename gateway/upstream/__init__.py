"""Forward: the body's size, the circuit, the headers, the connection, the answer."""
