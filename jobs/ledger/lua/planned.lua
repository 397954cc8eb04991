-- ARGV: shards, rows: how many the planner has added in all. Notes that the job is wholly planned,
-- unless some of them are missing here: a Redis that has taken over for one that died may not have
-- got them all. Returns 1; 0 if some are missing, or there is no such job.
local counts = redis.call('HMGET', JOB, 'shards_added', 'rows_added')
if redis.call('EXISTS', JOB) == 0 then return 0 end
if counts[1] and (counts[1] ~= ARGV[1] or counts[2] ~= ARGV[2]) then return 0 end
redis.call('HSET', JOB, 'planned', 1)
return 1
