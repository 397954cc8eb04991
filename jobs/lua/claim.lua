-- ARGV: shard, token, worker, lease_ms, max_attempts.
-- Returns LEASED attempt definition | BUSY | DONE | POISON | CLOSED | GONE.
local shard, token, worker = ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HGET', JOB, 'state')
local definition = redis.call('HGET', SHARDS, shard)
if not state or not definition then return {'GONE'} end
if state ~= 'planning' and state ~= 'running' then return {'CLOSED'} end
expire_if_due(shard, tonumber(ARGV[5]))
if redis.call('HEXISTS', DONE, shard) == 1 then return {'DONE'} end
if redis.call('HEXISTS', POISON, shard) == 1 then return {'POISON'} end
if redis.call('ZSCORE', LEASES, shard) then return {'BUSY'} end
local attempt = redis.call('HINCRBY', ATTEMPTS, shard, 1)
redis.call('ZREM', PENDING, shard)
redis.call('ZADD', LEASES, now_ms() + tonumber(ARGV[4]), shard)
redis.call('HSET', HOLDERS, shard, cjson.encode({
  token = token, worker = worker, attempt = attempt, started_ms = now_ms(), progress = 0}))
return {'LEASED', attempt, definition}
