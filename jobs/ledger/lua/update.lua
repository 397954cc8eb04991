-- ARGV: pairs of field, value. Sets plain fields of a job. Returns 1; 0 if there is no such job.
if redis.call('EXISTS', JOB) == 0 then return 0 end
redis.call('HSET', JOB, unpack(ARGV))
return 1
