"""The config: strict, frozen pydantic sections, one module per section, and loading from YAML."""
