"""Tools that write the pictures and generated parts of the README and the docs."""
