-- ARGV: target, reason, then the states it may come from. Returns '' or the state that forbids it.
local state = redis.call('HGET', JOB, 'state')
if not state then return 'missing' end
for i = 3, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', JOB, 'state', ARGV[1], 'reason', ARGV[2], 'changed_ms', now_ms())
    return ''
  end
end
return state
