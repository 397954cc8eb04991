-- ARGV: pairs of shard, definition (JSON). Adds those that are new; returns their names, or nothing
-- at all where the job is not there or takes no more.
local state = redis.call('HGET', JOB, 'state')
if not is_open() and state ~= 'queued' then return false end
local added = {}
for i = 1, #ARGV, 2 do
  local known = redis.call('SISMEMBER', SPLIT, ARGV[i]) == 1
  if not known and redis.call('HSETNX', SHARDS, ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', PENDING, now_ms(), ARGV[i])
    added[#added + 1] = ARGV[i]
  end
end
return added
