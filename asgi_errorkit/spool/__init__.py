"""A record of the host's workers that outlives them: a memory-mapped segment for each."""
