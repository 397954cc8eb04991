-- ARGV: id, kind, spec (JSON), priority. Creates a queued job once. Returns 1 if it is new, else 0.
if redis.call('HSETNX', JOB, 'id', ARGV[1]) == 0 then return 0 end
-- Removes what a late worker wrote for an earlier job of this id after that job had expired.
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HSET', JOB, 'kind', ARGV[2], 'spec', ARGV[3], 'state', 'queued', 'reason', '',
  'priority', ARGV[4], 'created_ms', now_ms(), 'changed_ms', now_ms(),
  'rows_total', 0, 'rows_done', 0, 'rows_failed', 0, 'planned', 0, 'barren', 0,
  'shards_added', 0, 'rows_added', 0)
return 1
