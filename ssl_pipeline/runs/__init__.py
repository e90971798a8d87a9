"""The run directory: paths, atomic files, stage records, lock, status, progress, review, storage."""
