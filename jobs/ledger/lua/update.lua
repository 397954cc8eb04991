-- ARGV: pairs of field, value. Sets plain fields of a job that is there. Returns whether it is.
if redis.call('EXISTS', JOB) == 0 then return 0 end
redis.call('HSET', JOB, unpack(ARGV))
return 1
