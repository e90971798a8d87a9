"""Face tables: sources, decoding, cropping, splits, duplicates, pixels."""
