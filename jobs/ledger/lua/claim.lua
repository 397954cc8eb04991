-- ARGV: shard, token, worker, lease_ms, child, insist (1: claim although this child failed at
-- the shard already). A lease that ran out still bars other workers: only the reconciler ends it
-- (reconcile.lua), so that there is one path of recovery.
-- Returns LEASED attempt definition | BUSY | DONE | POISON | CLOSED | GONE
--   | DECLINED (this worker, or this child of it, cannot do the job)
--   | DOUBTED (this child failed at this shard, or at several others).
local shard, token, worker, child = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local definition = redis.call('HGET', SHARDS, shard)
if not definition then return {'GONE'} end
if not is_open() then return {'CLOSED'} end
if redis.call('HEXISTS', DONE, shard) == 1 then return {'DONE'} end
if redis.call('HEXISTS', POISON, shard) == 1 then return {'POISON'} end
local holder = holder_of(shard)
-- The same token claims again, because the answer to its first claim was lost on the way.
if holder and holder.token == token then return {'LEASED', holder.attempt, definition} end
if holder then return {'BUSY'} end
local name = child_name(worker, child)
local failures = failures_of(name)
local refused = false
if redis.call('HEXISTS', DECLINED, name) + redis.call('HEXISTS', DECLINED, worker) > 0 then
  refused = 'DECLINED'
elseif failures and ARGV[6] ~= '1' then
  local count = 0
  for _ in pairs(failures.shards) do count = count + 1 end
  if failures.shards[shard] or count >= DOUBTED then refused = 'DOUBTED' end
end
if refused then
  redis.call('ZADD', PENDING, 0, shard)  -- the message is used up, so the shard gets another
  return {refused}
end
local attempt = redis.call('HINCRBY', ATTEMPTS, shard, 1)
redis.call('ZREM', PENDING, shard)
redis.call('ZADD', LEASES, now_ms() + tonumber(ARGV[4]), shard)
redis.call('HSET', HOLDERS, shard, cjson.encode({token = token, worker = worker, child = child,
  attempt = attempt, started_ms = now_ms(), progress = 0}))
return {'LEASED', attempt, definition}
