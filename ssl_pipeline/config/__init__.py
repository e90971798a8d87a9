"""What a run may be told: strict, frozen sections, one module a section of the config."""
