-- ARGV: max_attempts, stale_ms, limit, asked_ms, reached_ms. Three things:
-- 1. Ends leases that ran out, unless asked_ms (Redis' time when the caller asked) is 0 or long
--    past. If it is long past, Redis itself stood still, and beats that keep those leases wait
--    behind this call.
-- 2. Notes as unfit each child that failed in a row at several shards which others then completed.
-- 3. Picks pending shards that have no message and marks them as just published: those whose score
--    is 0 (released, failed, pieces), and those whose last message is older than stale_ms and than
--    all that wait (reached_ms).
-- Returns JSON: settled, due (shards to publish), unfit (child -> reason).
if now_ms() - tonumber(ARGV[4]) < 1000 then
  for _, shard in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms())) do
    if redis.call('HEXISTS', SHARDS, shard) == 1 then
      strike(shard, holder_of(shard) or {}, tonumber(ARGV[1]), 'lost',
        'the worker was lost: no beat within its lease')
    else
      drop_lease(shard)
    end
  end
end
local unfit, some_unfit = {}, false
for _, child in ipairs(redis.call('HKEYS', FAILING)) do
  local failures, done_by_others = failures_of(child), 0
  for shard in pairs(failures.shards) do
    done_by_others = done_by_others + redis.call('HEXISTS', DONE, shard)
  end
  if done_by_others >= DOUBTED then
    local reason = done_by_others .. ' shards in a row failed here that others did; the last: '
      .. failures.reason
    decline(child, reason)
    unfit[child], some_unfit = reason, true
  end
end
-- Shards published together have the same time. So a shard as old as the oldest message that waits
-- may have a message that waits, and is left out.
local before = math.max(0, math.min(now_ms() - tonumber(ARGV[2]), tonumber(ARGV[5]) - 1))
local due = redis.call('ZRANGEBYSCORE', PENDING, '-inf', before, 'LIMIT', 0, tonumber(ARGV[3]))
for _, shard in ipairs(due) do redis.call('ZADD', PENDING, now_ms(), shard) end
return cjson.encode({settled = all_settled(), due = #due > 0 and due or nil,
  unfit = some_unfit and unfit or nil})
