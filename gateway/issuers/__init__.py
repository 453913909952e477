"""Identity providers over the network: their key sets, and what they say of opaque tokens."""
