"""Images in, predictions out: files, streams, tables, submissions, several checkpoints."""
