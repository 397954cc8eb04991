"""A label job, from the request to the finished output."""
