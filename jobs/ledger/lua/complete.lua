-- ARGV: shard, token, result (JSON with rows and failed). Returns OK | LAST | DUPLICATE | STALE.
-- A shard done after its job was closed still counts: its part is whole.
local shard = ARGV[1]
-- DUPLICATE: the same result again. STALE: the part of another attempt has won.
local known = redis.call('HGET', DONE, shard)
if known then return known == ARGV[3] and 'DUPLICATE' or 'STALE' end
local holder = holder_of(shard)
if not holder or holder.token ~= ARGV[2] then return 'STALE' end
local result = cjson.decode(ARGV[3])
redis.call('HDEL', FAILING, child_of(holder))
record(shard, holder, 'done', '')
drop_lease(shard)
redis.call('HSET', DONE, shard, ARGV[3])
redis.call('HINCRBY', JOB, 'rows_done', result.rows)
redis.call('HINCRBY', JOB, 'rows_failed', result.failed)
redis.call('HSET', JOB, 'barren', 0)
return all_settled() and 'LAST' or 'OK'
