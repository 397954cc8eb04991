-- Shared by all scripts; KEYS are always the keys of one job, in this order.
local JOB, SHARDS, PENDING, LEASES, HOLDERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ATTEMPTS, STRIKES, DONE, POISON, HISTORY = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The attempt's end, kept apart from the shard: the last 1000 of a job.
local function record(shard, holder, outcome, reason)
  holder.shard, holder.ended_ms, holder.outcome, holder.reason = shard, now_ms(), outcome, reason
  redis.call('LPUSH', HISTORY, cjson.encode(holder))
  redis.call('LTRIM', HISTORY, 0, 999)
end

local function holder_of(shard)
  local text = redis.call('HGET', HOLDERS, shard)
  return text and cjson.decode(text) or nil
end

local function drop_lease(shard)
  redis.call('ZREM', LEASES, shard)
  redis.call('HDEL', HOLDERS, shard)
end

local function all_settled()
  if redis.call('HGET', JOB, 'planned') ~= '1' then return false end
  return redis.call('HLEN', DONE) + redis.call('HLEN', POISON) == redis.call('HLEN', SHARDS)
end

-- One failed attempt: back to pending, or set aside after max_attempts of them.
local function strike(shard, holder, max_attempts, outcome, reason)
  record(shard, holder, outcome, reason)
  drop_lease(shard)
  if redis.call('HINCRBY', STRIKES, shard, 1) >= max_attempts then
    redis.call('ZREM', PENDING, shard)
    redis.call('HSET', POISON, shard, reason)
    local rows = cjson.decode(redis.call('HGET', SHARDS, shard)).rows
    redis.call('HINCRBY', JOB, 'rows_failed', rows)
    return 'POISON'
  end
  redis.call('ZADD', PENDING, 0, shard)
  return 'RETRY'
end

-- Strikes against one shard whose lease ran out.
local function expire_if_due(shard, max_attempts)
  local till = redis.call('ZSCORE', LEASES, shard)
  if till and tonumber(till) <= now_ms() then
    local holder = holder_of(shard) or {}
    strike(shard, holder, max_attempts, 'lost',
      'the worker was lost: no beat within its lease')
  end
end
