"""What Redis knows: jobs, shards, leases, workers, messages."""
