-- ARGV: max_attempts, stale_ms, limit, asked_ms. Ends leases that ran out, unless asked_ms (Redis' time
-- when the caller asked) is 0 or long past: then Redis itself stood still, and beats wait behind
-- this call that keep those leases. Picks pending shards
-- whose last message is older than stale_ms and marks them as just published.
-- Returns: SETTLED or OPEN, then the shards to publish.
if now_ms() - tonumber(ARGV[4]) < 1000 then
  for _, shard in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms())) do
    strike(shard, holder_of(shard) or {}, tonumber(ARGV[1]), 'lost',
      'the worker was lost: no beat within its lease')
  end
end
local before = now_ms() - tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', PENDING, '-inf', before, 'LIMIT', 0, tonumber(ARGV[3]))
for _, shard in ipairs(due) do redis.call('ZADD', PENDING, now_ms(), shard) end
table.insert(due, 1, all_settled() and 'SETTLED' or 'OPEN')
return due
