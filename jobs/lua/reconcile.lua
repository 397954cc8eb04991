-- ARGV: max_attempts, stale_ms, limit. Expires leases that ran out, then picks pending shards
-- whose last message is older than stale_ms and marks them as just published.
-- Returns: SETTLED or OPEN, then the shards to publish.
for _, shard in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms())) do
  expire_if_due(shard, tonumber(ARGV[1]))
end
local before = now_ms() - tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', PENDING, '-inf', before, 'LIMIT', 0, tonumber(ARGV[3]))
for _, shard in ipairs(due) do redis.call('ZADD', PENDING, now_ms(), shard) end
table.insert(due, 1, all_settled() and 'SETTLED' or 'OPEN')
return due
