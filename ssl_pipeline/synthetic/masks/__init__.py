"""Room 2: putting masks on faces. Masks are drawn from parameters, without template files or models."""
