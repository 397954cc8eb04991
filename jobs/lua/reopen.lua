-- ARGV: none. Gives set-aside shards of a queued job fresh attempts; done ones stay.
-- Returns the number of shards set free.
if redis.call('HGET', JOB, 'state') ~= 'queued' then return 0 end
local freed = redis.call('HKEYS', POISON)
for _, shard in ipairs(freed) do
  local rows = cjson.decode(redis.call('HGET', SHARDS, shard)).rows
  redis.call('HINCRBY', JOB, 'rows_failed', -rows)
  redis.call('ZADD', PENDING, 0, shard)
end
redis.call('DEL', POISON, STRIKES)
redis.call('HSET', JOB, 'barren', 0)
return #freed
