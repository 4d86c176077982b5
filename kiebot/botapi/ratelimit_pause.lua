-- Telegram answered 429 to a send. Answers how long (milliseconds) the whole bot pauses.
-- KEYS: pause of the bot, pause of the chat, the chat refused last. ARGV: the chat, how long, how long at first.
-- One refused chat need not stop all others: they pause briefly, and for the whole time when a second chat is refused.
local function pause(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('SET', key, '1', 'PX', ms)
  end
end

local asked, first = tonumber(ARGV[2]), tonumber(ARGV[3])
local before = redis.call('GET', KEYS[3])
local whole = math.min(asked, first)
if before and before ~= ARGV[1] then
  whole = asked
end
pause(KEYS[1], whole)
pause(KEYS[2], asked)
redis.call('SET', KEYS[3], ARGV[1], 'PX', asked)
return whole
