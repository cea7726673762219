"""Images in, Parquet out: sources, decoding, planning, committing."""
