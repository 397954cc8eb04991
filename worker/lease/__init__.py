"""Keep leases by beats, and take back the shards of leases that ran out."""
