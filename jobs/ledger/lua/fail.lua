-- ARGV: shard, token, reason, max_attempts, outcome (failed: the attempt said so; lost: it died).
-- Returns RETRY | SPLIT | POISON | LAST | STALE.
local shard = ARGV[1]
local holder = holder_of(shard)
if not holder or holder.token ~= ARGV[2] then return 'STALE' end
local answer = strike(shard, holder, tonumber(ARGV[4]), ARGV[5], ARGV[3])
return all_settled() and 'LAST' or answer
