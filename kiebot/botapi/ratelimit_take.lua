-- One call wants to go out. Answers the microseconds it has to wait; booked, unless that is more than the longest wait.
-- KEYS: overall, the chat, pause of the bot, pause of the chat.
-- ARGV: longest wait, messages (0: only the pauses count), then interval and burst of overall, of the chat. Microseconds.
-- Time is the server's, so that replicas whose clocks differ share one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local longest, count = tonumber(ARGV[1]), tonumber(ARGV[2])

local at = now
for i = 3, 4 do
  at = math.max(at, now + redis.call('PTTL', KEYS[i]) * 1000)
end
if count == 0 then
  return at - now
end

local empty_at = {}
for i = 1, 2 do
  local interval, burst = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local known = tonumber(redis.call('GET', KEYS[i]) or 0)
  if known > now + longest + interval * (burst + 10) then
    known = now  -- no booking reaches that far: the server's clock was set back
  end
  empty_at[i] = known
  at = math.max(at, known - interval * (burst - 1))
end
if at - now > longest then
  return at - now
end

local taken = {count, 1}
for i = 1, 2 do
  local booked = math.max(empty_at[i], at) + tonumber(ARGV[2 * i + 1]) * taken[i]
  redis.call('SET', KEYS[i], string.format('%.0f', booked), 'PX', math.ceil((booked - now) / 1000) + 1)
end
return at - now
