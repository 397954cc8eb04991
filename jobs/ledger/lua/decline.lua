-- ARGV: shard, token, reason. Gives a shard back without counting a failure, and notes that the
-- worker which held it cannot do this job. Returns OK | STALE.
local shard = ARGV[1]
local holder = holder_of(shard)
if not holder or holder.token ~= ARGV[2] then return 'STALE' end
decline(holder.worker, ARGV[3])
record(shard, holder, 'released', ARGV[3])
drop_lease(shard)
redis.call('ZADD', PENDING, 0, shard)
return 'OK'
