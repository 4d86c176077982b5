-- One call wants to go out. Answers the microseconds it has to wait, and 1 when all of it is booked, 0 when only its turn
-- in the chat is: a chat's long wait must not take the bot's rate from all others. Nothing is booked, when it would wait
-- longer than it is ready to.
-- KEYS: overall, the chat, pause of the bot, pause of the chat.
-- ARGV: how long it would wait, messages (0: only the pauses count), interval and burst of overall, of the chat, how long
-- any call may wait, 1 when its turn in the chat is booked. Microseconds.
-- Time is the server's, so that replicas whose clocks differ share one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local patience, count, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[7])
local has_turn = ARGV[8] == '1'

local at, empty_at = {}, {}
local most = {100, 10}  -- messages that one call may book; generously, for a chat
for i = 1, 2 do
  at[i] = math.max(now, now + redis.call('PTTL', KEYS[i + 2]) * 1000)
  local interval, burst = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local known = tonumber(redis.call('GET', KEYS[i]) or 0)
  if known > now + longest + interval * (burst + most[i]) then
    known = now  -- no booking reaches that far: the server's clock was set back
  end
  empty_at[i] = known
  if count > 0 and not (i == 2 and has_turn) then
    at[i] = math.max(at[i], known - interval * (burst - 1))
  end
end

local starts = math.max(at[1], at[2])
local is_whole = at[1] >= at[2]
if starts - now > patience or count == 0 then
  return {starts - now, 1}
end

local function book(i, taken)
  local booked = math.max(empty_at[i], starts) + tonumber(ARGV[2 * i + 1]) * taken
  redis.call('SET', KEYS[i], string.format('%.0f', booked), 'PX', math.ceil((booked - now) / 1000) + 1)
end
if is_whole then
  book(1, count)
end
if not has_turn then
  book(2, 1)
end
return {starts - now, is_whole and 1 or 0}
