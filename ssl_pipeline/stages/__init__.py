"""The stages of a cycle, a module each: paths and config in, a frozen result out."""
