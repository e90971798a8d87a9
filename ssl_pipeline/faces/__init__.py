"""Room 1: what an example is. Sources, decoding, splitting, tables of faces and their pixels."""
