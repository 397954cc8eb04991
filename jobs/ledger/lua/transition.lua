-- ARGV: target, reason, expire_s (0 keeps the job for ever), then the states from which the step
-- is allowed. Returns '', or the state that forbids the step.
local state = redis.call('HGET', JOB, 'state')
if not state then return 'missing' end
for i = 4, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', JOB, 'state', ARGV[1], 'reason', ARGV[2], 'changed_ms', now_ms())
    local seconds = tonumber(ARGV[3])
    for _, key in ipairs(KEYS) do
      if seconds > 0 then redis.call('EXPIRE', key, seconds) else redis.call('PERSIST', key) end
    end
    return ''
  end
end
return state
