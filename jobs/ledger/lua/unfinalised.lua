-- ARGV: reason. Notes why a settled job could not be finalised. Returns how often that has
-- happened since the job was opened; 0 if it is not finalising.
if redis.call('HGET', JOB, 'state') ~= 'finalising' then return 0 end
redis.call('HSET', JOB, 'reason', ARGV[1])
return redis.call('HINCRBY', JOB, 'unfinalised', 1)
