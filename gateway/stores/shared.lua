-- What processes tell each other: entries with a payload and an end, in the order of their
-- last change, so that a reader asks only for what has changed since it last looked.
--
-- KEYS: payloads (hash), order (sorted set: number of the change), ends (sorted set: the
-- server's microseconds), meta (hash). ARGV: the epoch and the change the reader has seen,
-- how many entries to return and to hold at most, then for each entry to put: its name,
-- payload, life in microseconds, and whether it is only a reminder (1), which never takes the
-- place of what is there.
--
-- The reply: epoch, the last change returned, the time, entries refused for want of room,
-- then name, payload and end of each entry. An epoch is one life of these keys: a server
-- that was restarted empty has another, and all is returned.

local call = redis.call
local payloads, order, ends, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local since, page, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local epoch = call('HGET', meta, 'epoch')
local change = tonumber(call('HGET', meta, 'change') or '0')
if epoch ~= ARGV[1] then
  since = 0
end

for _, name in ipairs(call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 1000)) do
  call('HDEL', payloads, name)
  call('ZREM', order, name)
  call('ZREM', ends, name)
end

local refused = 0
for at = 5, #ARGV, 4 do
  local name, payload, until_ = ARGV[at], ARGV[at + 1], now + tonumber(ARGV[at + 2])
  local reminder = ARGV[at + 3] == '1'
  local before = tonumber(call('ZSCORE', ends, name) or '0')
  if before == 0 and call('ZCARD', ends) >= most then
    refused = refused + 1
  elseif before == 0 or not reminder
    and (before < until_ or call('HGET', payloads, name) ~= payload) then
    if not epoch then
      epoch = string.format('%.0f', now)
      call('HSET', meta, 'epoch', epoch)
    end
    change = change + 1
    call('HSET', meta, 'change', change)
    call('HSET', payloads, name, payload)
    call('ZADD', order, change, name)
    call('ZADD', ends, until_, name)
  end
end

if #ARGV > 4 and epoch then
  -- All go by themselves when the last entry has ended.
  local last = call('ZRANGE', ends, -1, -1, 'WITHSCORES')
  local left = math.ceil((tonumber(last[2] or now) - now) / 1000) + 1000
  for _, key in ipairs(KEYS) do
    call('PEXPIRE', key, left)
  end
end

local found = call('ZRANGEBYSCORE', order, '(' .. since, '+inf', 'WITHSCORES', 'LIMIT', 0, page)
local upto = #found == 2 * page and found[#found] or tostring(change)
local reply = { epoch or '', upto, string.format('%.0f', now), refused }
for at = 1, #found, 2 do
  local name = found[at]
  local until_ = call('ZSCORE', ends, name)
  reply[#reply + 1] = name
  reply[#reply + 1] = call('HGET', payloads, name)
  reply[#reply + 1] = string.format('%.0f', tonumber(until_))
end
return reply
