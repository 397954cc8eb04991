-- ARGV: shard, token, lease_ms, progress (rows done), pulse (signs of life).
-- Returns OK | CLOSED | STALE.
local shard = ARGV[1]
local holder = holder_of(shard)
if not holder or holder.token ~= ARGV[2] then return 'STALE' end
if not is_open() then return 'CLOSED' end
holder.progress = tonumber(ARGV[4])
holder.pulse = tonumber(ARGV[5])
redis.call('HSET', HOLDERS, shard, cjson.encode(holder))
redis.call('ZADD', LEASES, now_ms() + tonumber(ARGV[3]), shard)
return 'OK'
