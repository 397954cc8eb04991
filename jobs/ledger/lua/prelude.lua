-- Shared by all scripts; KEYS are always the keys of one job, in this order.
local JOB, SHARDS, PENDING, LEASES, HOLDERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ATTEMPTS, STRIKES, DONE, POISON, HISTORY = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local SPLIT, DECLINED, FAILING = KEYS[11], KEYS[12], KEYS[13]

-- A shard that used up its attempts is split into this many pieces, and each piece likewise.
local PIECES = 8
-- A child that failed at so many shards, and completed none between them, is doubted.
local DOUBTED = 3

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Notes how an attempt ended: in the history (the job's last 1000), and in its outcome's count.
local function record(shard, holder, outcome, reason)
  holder.shard, holder.ended_ms, holder.outcome, holder.reason = shard, now_ms(), outcome, reason
  redis.call('LPUSH', HISTORY, cjson.encode(holder))
  redis.call('LTRIM', HISTORY, 0, 999)
  redis.call('HINCRBY', JOB, 'attempts_' .. outcome, 1)
end

local function holder_of(shard)
  local text = redis.call('HGET', HOLDERS, shard)
  return text and cjson.decode(text) or nil
end

local function drop_lease(shard)
  redis.call('ZREM', LEASES, shard)
  redis.call('HDEL', HOLDERS, shard)
end

local function is_open()
  local state = redis.call('HGET', JOB, 'state')
  return state == 'planning' or state == 'running'
end

local function all_settled()
  if redis.call('HGET', JOB, 'planned') ~= '1' then return false end
  return redis.call('HLEN', DONE) + redis.call('HLEN', POISON) == redis.call('HLEN', SHARDS)
end

-- The name of a worker's child at a place; the child keeps it when its process is replaced.
local function child_name(worker, child)
  return worker .. '#' .. child
end

local function child_of(holder)
  return child_name(holder.worker or '', holder.child or 0)
end

-- The shards a child failed at since it last completed one.
local function failures_of(child)
  local text = redis.call('HGET', FAILING, child)
  return text and cjson.decode(text) or nil
end

local function note_failure(shard, holder, reason)
  local child = child_of(holder)
  local failures = failures_of(child) or {shards = {}}
  failures.shards[shard], failures.last_ms, failures.reason = 1, now_ms(), reason
  redis.call('HSET', FAILING, child, cjson.encode(failures))
end

-- Notes who cannot do the job: a worker, or one child of it.
local function decline(name, reason)
  redis.call('HSET', DECLINED, name, cjson.encode({reason = reason, at_ms = now_ms()}))
  redis.call('HDEL', FAILING, name)
end

-- Pieces of a shard take its place; each is pending.
local function split(shard, definition)
  local offset, rows = definition.offset or 0, definition.rows
  local size = math.ceil(rows / PIECES)
  redis.call('HDEL', SHARDS, shard)
  redis.call('HDEL', STRIKES, shard)
  redis.call('SADD', SPLIT, shard)  -- so that planning again does not add it again
  local piece = 0
  while piece * size < rows do
    local name = shard .. '.' .. piece
    definition.offset = offset + piece * size
    definition.rows = math.min(size, rows - piece * size)
    redis.call('HSET', SHARDS, name, cjson.encode(definition))
    redis.call('ZADD', PENDING, 0, name)
    piece = piece + 1
  end
end

-- Counts a failed attempt. The shard is pending again; after max_attempts failures it is split, or
-- set aside if it is a single row. A piece of several rows has one attempt only: its shard has
-- proved that some row is bad. A single row has max_attempts again, so that an innocent one is not
-- lost when a machine is killed.
local function strike(shard, holder, max_attempts, outcome, reason)
  record(shard, holder, outcome, reason)
  drop_lease(shard)
  note_failure(shard, holder, reason)
  redis.call('HINCRBY', JOB, 'barren', 1)
  redis.call('HSET', JOB, 'last_failure', reason)
  local definition = cjson.decode(redis.call('HGET', SHARDS, shard))
  local is_piece = string.find(shard, '.', 1, true)
  local allowed = (is_piece and definition.rows > 1) and 1 or max_attempts
  if redis.call('HINCRBY', STRIKES, shard, 1) < allowed then
    redis.call('ZADD', PENDING, 0, shard)
    return 'RETRY'
  end
  redis.call('ZREM', PENDING, shard)
  if definition.rows > 1 then
    split(shard, definition)
    return 'SPLIT'
  end
  redis.call('HSET', POISON, shard, reason)
  redis.call('HINCRBY', JOB, 'rows_failed', definition.rows)
  return 'POISON'
end
