-- Admit one call if fewer than `limit` were admitted within the last `window_ms`; else say how long to wait.
-- KEYS: 1 admitted (list of milliseconds, newest first)  2 penalty (how often halved)  3 pause (present = stop)
-- ARGV: 1 limit  2 window_ms       Returns: 0 admitted, else milliseconds to wait. The server's clock is the only one.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local pause = redis.call('PTTL', KEYS[3])
if pause > 0 then return pause end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local penalty = tonumber(redis.call('GET', KEYS[2]) or '0')
limit = math.max(1, math.floor(limit / 2 ^ penalty))

local newest = tonumber(redis.call('LINDEX', KEYS[1], 0) or '0')
if newest > now then  -- the clock went back: these stamps mean nothing now, so wait out one whole window
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[3], '1', 'PX', window)
  return window
end

local nth = tonumber(redis.call('LINDEX', KEYS[1], limit - 1) or '-1')
if nth >= 0 and now - nth < window then return window - (now - nth) end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
redis.call('PEXPIRE', KEYS[1], window)
return 0
