-- ARGV: the states from which the job may be reopened. Lets a resting job go on: done shards stay,
-- set-aside ones get fresh attempts, and workers that declined the job may try again. All in one
-- step, so that a caller that dies does not leave the job half open. Returns 1; 0 if its state
-- forbids it.
local state = redis.call('HGET', JOB, 'state')
local allowed = false
for _, name in ipairs(ARGV) do allowed = allowed or name == state end
if not allowed then return 0 end
for _, shard in ipairs(redis.call('HKEYS', POISON)) do
  local rows = cjson.decode(redis.call('HGET', SHARDS, shard)).rows
  -- As an integer: -0 would be sent as "-0", which HINCRBY refuses.
  redis.call('HINCRBY', JOB, 'rows_failed', string.format('%d', -rows))
  redis.call('ZADD', PENDING, 0, shard)
end
redis.call('DEL', POISON, STRIKES, DECLINED, FAILING)
local goes_on = redis.call('HGET', JOB, 'planned') == '1' and 'running' or 'queued'
redis.call('HSET', JOB, 'barren', 0, 'unfinalised', 0, 'state', goes_on, 'reason', '', 'changed_ms', now_ms())
for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
return 1
