"""What labels texts: one engine on torch, one on OpenVINO; the cache of answers; exports."""
