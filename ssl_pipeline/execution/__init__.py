"""Where shards are worked on: in this process, or by the workers of a Ray cluster. Knows nothing of what the work is."""
