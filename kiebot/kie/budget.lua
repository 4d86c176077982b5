-- Admit one call, or say when its turn will come. The server's clock is the only one.
-- KEYS: 1 admitted (call -> milliseconds from which it counts for one window)  2 penalty (how often halved)
--       3 pause (present = stop)  4 line (turn -> its place)  5 due (turn -> when it was told to come)
-- ARGV: 1 limit  2 window_ms  3 margin_ms  4 turn  5 since_ms (0: now)   Returns: 0 admitted, else ms to wait.
local LATE, GONE, FAR, KEPT = 3000, 300000, 15000, 3600000
local most, window, margin, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local penalty = tonumber(redis.call('GET', KEYS[2]) or '0')
local limit = math.max(1, math.floor(most / 2 ^ penalty))

local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if newest and tonumber(newest) > now + margin then  -- the clock went back: these stamps mean nothing, wait a window out
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[3], '1', 'PX', window)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now - GONE, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[4], other)
  redis.call('ZREM', KEYS[5], other)
end

-- Those in front. Who did not come when told keeps its place, but nobody else waiting.
local place = tonumber(redis.call('ZSCORE', KEYS[4], turn) or nil)
local is_new = not place
if is_new then
  local last = tonumber(redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2] or '0')
  local since = tonumber(ARGV[5])
  place = since > 0 and math.min(since, now) or math.max(now, last + 1)
end
local ahead = is_new and redis.call('ZCOUNT', KEYS[4], '-inf', place) or redis.call('ZRANK', KEYS[4], turn)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now - LATE, 'LIMIT', 0, 100)) do
  local theirs = tonumber(redis.call('ZSCORE', KEYS[4], other) or nil)
  if other ~= turn and theirs and (theirs < place or is_new and theirs == place) then ahead = ahead - 1 end
end

-- How many of the calls that count have to end before this one may go.
local counting = redis.call('ZCARD', KEYS[1])
local ends = counting + ahead + 1 - limit
local wait = math.max(redis.call('PTTL', KEYS[3]), 0)
if ends <= 0 and wait == 0 then
  redis.call('ZADD', KEYS[1], now + margin, string.format('%.0f:%s', now, turn))
  redis.call('PEXPIRE', KEYS[1], window + margin)
  redis.call('ZREM', KEYS[4], turn)
  redis.call('ZREM', KEYS[5], turn)
  return 0
end
if ends > 0 then
  local nth = math.min((ends - 1) % limit, counting - 1)
  local opens = now
  if nth >= 0 then
    local counts_from = tonumber(redis.call('ZRANGE', KEYS[1], nth, nth, 'WITHSCORES')[2])
    opens = math.min(counts_from, now)  -- one that is on its way is taken to be answered at once
  end
  opens = opens + window * (1 + math.floor((ends - 1) / limit))
  wait = math.max(wait, opens - now, 1)
end
if wait > FAR then wait = math.max(FAR, math.floor(wait * 0.9)) end  -- much may change until then: look once more

if is_new then redis.call('ZADD', KEYS[4], place, turn) end
redis.call('ZADD', KEYS[5], now + wait, turn)
redis.call('PEXPIRE', KEYS[4], KEPT)
redis.call('PEXPIRE', KEYS[5], KEPT)
return wait
