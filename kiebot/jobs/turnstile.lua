-- A leaky bucket in the time of what is poured in: which of these fit?
-- KEYS: 1 level (hash: empty_at, last_at)   ARGV: 1 interval_ms  2 burst  then the instants in ms   Returns: 1 or 0 each
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local level = redis.call('HMGET', KEYS[1], 'empty_at', 'last_at')
local empty_at, last_at = tonumber(level[1] or '0'), tonumber(level[2] or '0')
local fits = {}
for i = 3, #ARGV do
  last_at = math.max(last_at, tonumber(ARGV[i]))
  if empty_at - interval * (burst - 1) > last_at then fits[#fits + 1] = 0
  else
    empty_at = math.max(empty_at, last_at) + interval
    fits[#fits + 1] = 1
  end
end
redis.call('HSET', KEYS[1], 'empty_at', string.format('%.0f', empty_at), 'last_at', string.format('%.0f', last_at))
redis.call('PEXPIRE', KEYS[1], interval * burst + 600000)
return fits
