"""Maps over shards, in this process or on a Ray cluster; independent of the kind of work."""
