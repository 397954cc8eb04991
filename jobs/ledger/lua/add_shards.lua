-- ARGV: pairs of shard, definition (JSON). Adds the shards that are new and returns their names;
-- returns false if there is no such job or it takes no more shards.
local state = redis.call('HGET', JOB, 'state')
if not is_open() and state ~= 'queued' then return false end
local added, rows = {}, 0
for i = 1, #ARGV, 2 do
  local known = redis.call('SISMEMBER', SPLIT, ARGV[i]) == 1
  if not known and redis.call('HSETNX', SHARDS, ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', PENDING, now_ms(), ARGV[i])
    added[#added + 1] = ARGV[i]
    rows = rows + (cjson.decode(ARGV[i + 1]).rows or 0)
  end
end
-- Of a job that an earlier version has begun, it is not known how many there are.
if redis.call('HEXISTS', JOB, 'shards_added') == 1 then
  redis.call('HINCRBY', JOB, 'shards_added', #added)
  redis.call('HINCRBY', JOB, 'rows_added', rows)
end
return added
